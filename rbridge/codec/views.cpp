#include "rbridge/codec/views.hpp"

#include <cstdlib>
#include <cstring>

#include "runtime/assert.hpp"

namespace setsuna::codec {

namespace {

// In the raw vector data2 of a view.
struct ViewCell {
  const std::uint8_t* data;  // nullptr: detached
  R_xlen_t n;
};

R_altrep_class_t real_class;
R_altrep_class_t integer_class;
R_altrep_class_t logical_class;
R_altrep_class_t complex_class;
R_altrep_class_t raw_class;

ViewSource* released = nullptr;  // sources whose last view is gone, until drain_released()

ViewCell* cell_of(SEXP view) { return reinterpret_cast<ViewCell*>(RAW(R_altrep_data2(view))); }
ViewGroup* group_of(SEXP pointer) { return static_cast<ViewGroup*>(R_ExternalPtrAddr(pointer)); }

const void* data_of(SEXP view) {
  const std::uint8_t* data = cell_of(view)->data;
  if (data == nullptr) Rf_error("this value was a view of an argument that has been released");
  return data;
}

template <typename T>
T element(SEXP view, R_xlen_t i) {
  return static_cast<const T*>(data_of(view))[i];
}

// --- ALTREP methods ---

R_xlen_t length(SEXP view) { return cell_of(view)->n; }

void* dataptr(SEXP view, Rboolean writable) {
  void* data = const_cast<void*>(data_of(view));  // the mapping is private and writable
  if (writable) group_of(R_altrep_data1(view))->source->writable_given = true;
  return data;
}

const void* dataptr_or_null(SEXP view) { return cell_of(view)->data; }

template <typename T>
R_xlen_t get_region(SEXP view, R_xlen_t from, R_xlen_t n, T* out) {
  const auto* data = static_cast<const T*>(data_of(view));
  const R_xlen_t rest = length(view) - from;
  if (n > rest) n = rest;
  if (n <= 0) return 0;
  std::memcpy(out, data + from, static_cast<std::size_t>(n) * sizeof(T));
  return n;
}

template <SEXPTYPE type, typename T>
SEXP duplicate(SEXP view, Rboolean /*deep*/) {
  const R_xlen_t n = length(view);
  data_of(view);  // the error, before the allocation
  SEXP copy = Rf_allocVector(type, n);
  std::memcpy(const_cast<void*>(DATAPTR_RO(copy)), data_of(view), static_cast<std::size_t>(n) * sizeof(T));
  return copy;
}

Rboolean inspect(SEXP view, int /*pre*/, int /*deep*/, int /*pvec*/,
                 void (* /*inspect_subtree*/)(SEXP, int, int, int)) {
  const ViewCell* cell = cell_of(view);
  Rprintf(" setsuna view (%.0f elements, %s)\n", static_cast<double>(cell->n), cell->data ? "attached" : "detached");
  return TRUE;
}

// No Serialized_state, Coerce, Extract_subset, Sum, Is_sorted...: R's defaults treat a view as an ordinary vector, which is
// also what it is saved as.
template <SEXPTYPE type, typename T>
void set_methods(R_altrep_class_t view_class) {
  R_set_altrep_Length_method(view_class, length);
  R_set_altrep_Duplicate_method(view_class, duplicate<type, T>);
  R_set_altrep_Inspect_method(view_class, inspect);
  R_set_altvec_Dataptr_method(view_class, dataptr);
  R_set_altvec_Dataptr_or_null_method(view_class, dataptr_or_null);
}

R_altrep_class_t class_for(SEXPTYPE type) {
  switch (type) {
    case REALSXP: return real_class;
    case INTSXP: return integer_class;
    case LGLSXP: return logical_class;
    case CPLXSXP: return complex_class;
    default: SETSUNA_ASSERT(type == RAWSXP); return raw_class;
  }
}

// --- groups ---

void link(ViewGroup* group, ViewSource* source) {
  group->source = source;
  group->next = source->groups;
  if (source->groups != nullptr) source->groups->previous = group;
  source->groups = group;
}

void unlink(ViewGroup* group) {
  ViewSource* source = group->source;
  if (group->previous != nullptr) {
    group->previous->next = group->next;
  } else {
    source->groups = group->next;
  }
  if (group->next != nullptr) group->next->previous = group->previous;
  SETSUNA_ASSERT(source->live_views >= group->views);
  source->live_views -= group->views;
  group->source = nullptr;
  group->next = group->previous = nullptr;
  group->views = 0;
}

// Runs inside the collector: touches our own records only.
void finalize_group(SEXP pointer) {
  ViewGroup* group = group_of(pointer);
  if (group == nullptr) return;
  R_ClearExternalPtr(pointer);
  ViewSource* source = group->source;
  if (source != nullptr) {
    unlink(group);
    if (source->handed_over && source->live_views == 0) {
      source->next_released = released;
      released = source;
    }
  }
  std::free(group);
}

// Whether something other than the group's list refers to the view.
bool is_referenced(SEXP view) { return MAYBE_SHARED(view); }

void detach(SEXP view) {
  cell_of(view)->data = nullptr;
  R_set_altrep_data1(view, R_NilValue);
}

// Takes the unreferenced (or all) views out of the group's list.
void detach_from(ViewGroup* group, bool all) {
  SEXP kept = R_NilValue;
  SEXP cell = R_ExternalPtrProtected(group->pointer);
  std::uint32_t left = 0;
  while (cell != R_NilValue) {  // no allocation in here
    SEXP next = CDR(cell);
    SEXP view = CAR(cell);
    if (!all && is_referenced(view)) {
      SETCDR(cell, kept);
      kept = cell;
      ++left;
    } else {
      detach(view);
      SETCAR(cell, R_NilValue);
    }
    cell = next;
  }
  R_SetExternalPtrProtected(group->pointer, kept);
  group->source->live_views -= group->views - left;
  group->views = left;
}

void detach_groups(ViewSource* source, bool all) {
  for (ViewGroup* group = source->groups; group != nullptr;) {
    ViewGroup* next = group->next;
    detach_from(group, all);
    if (group->views == 0) unlink(group);
    group = next;
  }
}

bool is_our_class(SEXP x) {
  if (!ALTREP(x)) return false;
  return R_altrep_inherits(x, real_class) || R_altrep_inherits(x, integer_class) ||
         R_altrep_inherits(x, logical_class) || R_altrep_inherits(x, complex_class) || R_altrep_inherits(x, raw_class);
}

}  // namespace

void register_view_classes(DllInfo* dll) {
  real_class = R_make_altreal_class("view_real", "setsuna", dll);
  integer_class = R_make_altinteger_class("view_integer", "setsuna", dll);
  logical_class = R_make_altlogical_class("view_logical", "setsuna", dll);
  complex_class = R_make_altcomplex_class("view_complex", "setsuna", dll);
  raw_class = R_make_altraw_class("view_raw", "setsuna", dll);
  set_methods<REALSXP, double>(real_class);
  set_methods<INTSXP, int>(integer_class);
  set_methods<LGLSXP, int>(logical_class);
  set_methods<CPLXSXP, Rcomplex>(complex_class);
  set_methods<RAWSXP, Rbyte>(raw_class);
  R_set_altreal_Elt_method(real_class, element<double>);
  R_set_altreal_Get_region_method(real_class, get_region<double>);
  R_set_altinteger_Elt_method(integer_class, element<int>);
  R_set_altinteger_Get_region_method(integer_class, get_region<int>);
  R_set_altlogical_Elt_method(logical_class, element<int>);
  R_set_altlogical_Get_region_method(logical_class, get_region<int>);
  R_set_altcomplex_Elt_method(complex_class, element<Rcomplex>);
  R_set_altcomplex_Get_region_method(complex_class, get_region<Rcomplex>);
  R_set_altraw_Elt_method(raw_class, element<Rbyte>);
  R_set_altraw_Get_region_method(raw_class, get_region<Rbyte>);
}

SEXP new_view_group(ViewSource* source) {
  SEXP pointer = Rf_protect(R_MakeExternalPtr(nullptr, R_NilValue, R_NilValue));
  R_RegisterCFinalizerEx(pointer, finalize_group, FALSE);
  auto* group = static_cast<ViewGroup*>(std::calloc(1, sizeof(ViewGroup)));
  if (group == nullptr) Rf_error("not enough memory for a view");
  group->pointer = pointer;
  R_SetExternalPtrAddr(pointer, group);
  link(group, source);
  Rf_unprotect(1);
  return pointer;
}

SEXP new_view(SEXP pointer, SEXPTYPE type, const void* data, R_xlen_t n) {
  ViewGroup* group = group_of(pointer);
  SEXP cell = Rf_protect(Rf_allocVector(RAWSXP, sizeof(ViewCell)));
  const ViewCell content{static_cast<const std::uint8_t*>(data), n};
  std::memcpy(RAW(cell), &content, sizeof content);
  SEXP view = Rf_protect(R_new_altrep(class_for(type), pointer, cell));
  R_SetExternalPtrProtected(pointer, Rf_cons(view, R_ExternalPtrProtected(pointer)));
  ++group->views;
  ++group->source->live_views;
  Rf_unprotect(2);
  return view;
}

std::size_t release_on_last_view(ViewSource* source) {
  // If the collector emptied a source that was handed over before, it is on the list already: the caller has it again now.
  for (ViewSource** at = &released; *at != nullptr; at = &(*at)->next_released) {
    if (*at == source) {
      *at = source->next_released;
      break;
    }
  }
  source->handed_over = source->live_views > 0;
  return source->live_views;
}

std::size_t detach_unreferenced(ViewSource* source) {
  detach_groups(source, false);
  return release_on_last_view(source);
}

void detach_all(ViewSource* source) {
  detach_groups(source, true);
  const std::size_t left = release_on_last_view(source);
  SETSUNA_ASSERT(left == 0);
}

void drop_value(SEXP list) {
  if (TYPEOF(list) != VECSXP || ALTREP(list)) return;
  for (R_xlen_t i = 0; i < XLENGTH(list); ++i) {
    SEXP element = VECTOR_ELT(list, i);
    if (TYPEOF(element) == VECSXP && !MAYBE_SHARED(element)) drop_value(element);
    SET_VECTOR_ELT(list, i, R_NilValue);
  }
}

void drain_released() {
  while (released != nullptr) {
    ViewSource* source = released;
    released = source->next_released;
    source->next_released = nullptr;
    if (source->on_release != nullptr) source->on_release(source);
  }
}

bool is_view(SEXP x) { return is_our_class(x); }
bool is_detached_view(SEXP x) { return is_our_class(x) && cell_of(x)->data == nullptr; }

}  // namespace setsuna::codec
