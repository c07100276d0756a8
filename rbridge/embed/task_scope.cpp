#include "rbridge/embed/task_scope.hpp"

#include <cstring>

#include "rbridge/embed/steady_words.hpp"
#include "rbridge/embed/working_directory.hpp"

namespace setsuna::embed {
namespace {

// Kept alive through one preserved list; R objects only, no destructors.
enum Root { kRestore, kCalm, kGlobalNames, kGlobalValues, kOptionTags, kOptionValues, kSearch, kHidden, kRootCount };
SEXP roots = nullptr;
WorkingDirectory directory;
SEXP options_symbol = nullptr;
const ScopeExtra* extra = nullptr;
SteadyWords steady;  // of variables, options and the search path: while they are unchanged, nothing has to be compared
bool steady_known = false;
SteadyWords calm_words;  // of the functions of base whose effect outlasts a task
bool calm_known = false;

SEXP root(Root which) { return VECTOR_ELT(roots, which); }
void set_root(Root which, SEXP value) { SET_VECTOR_ELT(roots, which, value); }

SEXP options_list() { return Rf_findVarInFrame(R_BaseEnv, options_symbol); }

bool is_random_seed(SEXP name) { return std::strcmp(CHAR(name), ".Random.seed") == 0; }

SEXP global_names() { return R_lsInternal3(R_GlobalEnv, TRUE, FALSE); }

// The RNG state is the stream's own business; everything else counts.
bool globals_changed() {
  SEXP names = PROTECT(global_names());
  SEXP base_names = root(kGlobalNames);
  const R_xlen_t n = XLENGTH(names);
  R_xlen_t counted = 0;
  bool changed = false;
  for (R_xlen_t i = 0; i < n; ++i) {
    counted += is_random_seed(STRING_ELT(names, i)) ? 0 : 1;
  }
  changed = counted != XLENGTH(base_names);
  for (R_xlen_t i = 0; !changed && i < XLENGTH(base_names); ++i) {
    SEXP value = Rf_findVarInFrame(R_GlobalEnv, Rf_installTrChar(STRING_ELT(base_names, i)));
    changed = value != VECTOR_ELT(root(kGlobalValues), i);
  }
  UNPROTECT(1);
  return changed;
}

bool options_changed() {
  SEXP tags = root(kOptionTags);
  SEXP values = root(kOptionValues);
  const R_xlen_t n = XLENGTH(values);
  R_xlen_t i = 0;
  SEXP cell = options_list();
  for (; cell != R_NilValue && i < n; cell = CDR(cell), ++i) {
    if (CAR(cell) != VECTOR_ELT(values, i) || TAG(cell) != VECTOR_ELT(tags, i)) {
      return true;
    }
  }
  return cell != R_NilValue || i != n;
}

bool search_changed() {
  SEXP saved = root(kSearch);
  R_xlen_t i = 0;
  for (SEXP env = ENCLOS(R_GlobalEnv); env != R_BaseEnv && env != R_EmptyEnv; env = ENCLOS(env), ++i) {
    if (i >= XLENGTH(saved) || VECTOR_ELT(saved, i) != env) {
      return true;
    }
  }
  return i != XLENGTH(saved);
}

void save_globals() {
  SEXP all = PROTECT(global_names());
  const R_xlen_t n = XLENGTH(all);
  R_xlen_t kept = 0;
  for (R_xlen_t i = 0; i < n; ++i) {
    kept += is_random_seed(STRING_ELT(all, i)) ? 0 : 1;
  }
  SEXP names = PROTECT(Rf_allocVector(STRSXP, kept));
  SEXP values = PROTECT(Rf_allocVector(VECSXP, kept));
  for (R_xlen_t i = 0, k = 0; i < n; ++i) {
    if (is_random_seed(STRING_ELT(all, i))) {
      continue;
    }
    SEXP value = Rf_findVarInFrame(R_GlobalEnv, Rf_installTrChar(STRING_ELT(all, i)));
    MARK_NOT_MUTABLE(value);  // a task that modifies it must get a copy, or the baseline would change with it
    SET_STRING_ELT(names, k, STRING_ELT(all, i));
    SET_VECTOR_ELT(values, k++, value);
  }
  set_root(kGlobalNames, names);
  set_root(kGlobalValues, values);
  UNPROTECT(3);
}

void save_options() {
  const R_xlen_t n = Rf_xlength(options_list());
  SEXP tags = PROTECT(Rf_allocVector(VECSXP, n));
  SEXP values = PROTECT(Rf_allocVector(VECSXP, n));
  R_xlen_t i = 0;
  for (SEXP cell = options_list(); cell != R_NilValue; cell = CDR(cell), ++i) {
    MARK_NOT_MUTABLE(CAR(cell));
    SET_VECTOR_ELT(tags, i, TAG(cell));
    SET_VECTOR_ELT(values, i, CAR(cell));
  }
  set_root(kOptionTags, tags);
  set_root(kOptionValues, values);
  UNPROTECT(2);
}

void save_search() {
  R_xlen_t n = 0;
  for (SEXP env = ENCLOS(R_GlobalEnv); env != R_BaseEnv && env != R_EmptyEnv; env = ENCLOS(env)) {
    ++n;
  }
  SEXP saved = PROTECT(Rf_allocVector(VECSXP, n));
  R_xlen_t i = 0;
  for (SEXP env = ENCLOS(R_GlobalEnv); i < n; env = ENCLOS(env), ++i) {
    SET_VECTOR_ELT(saved, i, env);
  }
  set_root(kSearch, saved);
  UNPROTECT(1);
}

// R does not tell whether a time limit or a diversion is in force, but functions of base are promises until their first use:
// as long as nobody ever called these, there is none.
void watch_calm() {
  calm_words.begin();
  calm_known = true;
  for (const char* name : {"setTimeLimit", "setSessionTimeLimit", "sink"}) {
    SEXP symbol = Rf_install(name);
    calm_known = calm_known && calm_words.add_base_value(symbol) && calm_words.add_unused_promise(SYMVALUE(symbol));
  }
}

void watch_words() {
  steady_known = false;
  steady.begin();
  bool known = steady.add_environment(R_GlobalEnv, Rf_install(".Random.seed")) &&
               steady.add_base_value(options_symbol) && steady.add_list(options_list(), R_NilValue);
  for (SEXP env = ENCLOS(R_GlobalEnv); known && env != R_BaseEnv && env != R_EmptyEnv; env = ENCLOS(env)) {
    known = steady.add_enclosing(env);
  }
  steady_known = known;
}

SEXP named_options() {
  SEXP tags = root(kOptionTags);
  const R_xlen_t n = XLENGTH(tags);
  SEXP out = PROTECT(Rf_allocVector(VECSXP, n));
  SEXP names = PROTECT(Rf_allocVector(STRSXP, n));
  for (R_xlen_t i = 0; i < n; ++i) {
    SET_VECTOR_ELT(out, i, VECTOR_ELT(root(kOptionValues), i));
    SEXP tag = VECTOR_ELT(tags, i);
    SET_STRING_ELT(names, i, tag == R_NilValue ? R_BlankString : PRINTNAME(tag));
  }
  Rf_setAttrib(out, R_NamesSymbol, names);
  UNPROTECT(2);
  return out;
}

void call_restore(bool globals, bool options, bool search, bool dir) {
  SEXP names = root(kGlobalNames);
  SEXP values = PROTECT(Rf_shallow_duplicate(root(kGlobalValues)));
  Rf_setAttrib(values, R_NamesSymbol, names);
  SEXP g = PROTECT(globals ? values : R_NilValue);
  SEXP o = PROTECT(options ? named_options() : R_NilValue);
  SEXP s = PROTECT(search ? root(kSearch) : R_NilValue);
  SEXP d = PROTECT(dir ? Rf_mkString(directory.path()) : R_NilValue);
  SEXP call = PROTECT(Rf_lang5(root(kRestore), g, o, s, d));
  Rf_eval(call, R_BaseEnv);
  UNPROTECT(6);
  if (options) {
    save_options();  // same values, but the cells may stand in another order now
  }
  if (search) {
    save_search();  // what had to be attached again is another environment now
  }
}

// The part of the baseline that is not R's.
void note_surroundings() {
  if (extra != nullptr) {
    extra->take_baseline();
  }
  directory.remember();
}

// A task may have locked a variable that it was given.
void restore_global(SEXP symbol, SEXP before) {
  const bool bound = Rf_findVarInFrame(R_GlobalEnv, symbol) != R_UnboundValue;
  if (bound && R_BindingIsLocked(symbol, R_GlobalEnv) != FALSE) {
    R_unLockBinding(symbol, R_GlobalEnv);
  }
  if (before == R_UnboundValue) {
    R_removeVarFromFrame(symbol, R_GlobalEnv);
  } else {
    Rf_defineVar(symbol, before, R_GlobalEnv);
  }
}

}  // namespace

void TaskScope::prepare(SEXP restore, SEXP calm_function) {
  if (roots == nullptr) {
    roots = Rf_allocVector(VECSXP, kRootCount);
    R_PreserveObject(roots);
    options_symbol = Rf_install(".Options");
  }
  watch_calm();
  take_baseline();
  set_root(kRestore, restore);
  set_root(kCalm, calm_function);
}

// What was prepared before the fork is only read if it is still true: saving it anew would write to every second page of the
// heap, and so copy it.
void TaskScope::initialize() {
  if (calm_known && calm_words.unchanged() && steady_known && steady.unchanged() && root(kHidden) == R_NilValue) {
    note_surroundings();
    return;
  }
  watch_calm();
  take_baseline();
}

void TaskScope::calm() {
  if (calm_known && calm_words.unchanged()) {
    return;
  }
  SEXP call = PROTECT(Rf_lang1(root(kCalm)));
  Rf_eval(call, R_BaseEnv);
  UNPROTECT(1);
}

void TaskScope::add(const ScopeExtra* with) { extra = with; }

void TaskScope::take_baseline() {
  note_surroundings();
  set_root(kHidden, R_NilValue);
  save_globals();
  save_options();
  save_search();
  watch_words();
}

void TaskScope::bind_globals(SEXP values) {
  const R_xlen_t n = Rf_xlength(values);
  if (n == 0) {
    return;
  }
  SEXP names = Rf_getAttrib(values, R_NamesSymbol);
  SEXP hidden = Rf_allocVector(VECSXP, 2 * n + 1);  // symbol, what stood there (or unbound); last: an earlier such list
  SET_VECTOR_ELT(hidden, 2 * n, root(kHidden));
  set_root(kHidden, hidden);
  for (R_xlen_t i = 0; i < n; ++i) {
    SEXP symbol = Rf_installTrChar(STRING_ELT(names, i));
    SET_VECTOR_ELT(hidden, 2 * i, symbol);
    SET_VECTOR_ELT(hidden, 2 * i + 1, Rf_findVarInFrame(R_GlobalEnv, symbol));
    Rf_defineVar(symbol, VECTOR_ELT(values, i), R_GlobalEnv);
  }
}

void TaskScope::unbind_globals() {
  for (SEXP hidden = root(kHidden); hidden != R_NilValue; hidden = root(kHidden)) {
    R_xlen_t i = XLENGTH(hidden) - 1;
    set_root(kHidden, VECTOR_ELT(hidden, i));  // first: an error below must not come back to this list
    PROTECT(hidden);
    for (; i > 0; i -= 2) {
      restore_global(VECTOR_ELT(hidden, i - 2), VECTOR_ELT(hidden, i - 1));
    }
    UNPROTECT(1);
  }
}

void TaskScope::restore_all() {
  set_root(kHidden, R_NilValue);  // the globals are set anew, all of them
  call_restore(true, true, true, true);
  watch_words();
}

void TaskScope::restore(std::uint64_t took_ns) {
  if (R_EnvironmentIsLocked(R_GlobalEnv) != FALSE) {
    restore_all();
    return;
  }
  unbind_globals();
  if (extra != nullptr && extra->changed()) {
    extra->restore();
  }
  if (steady_known && steady.unchanged() && !directory.changed_in(took_ns)) {
    return;
  }
  const bool globals = globals_changed();
  const bool options = options_changed();
  const bool search = search_changed();
  const bool dir = directory.changed();
  if (globals || options || search || dir) {
    call_restore(globals, options, search, dir);
  }
  watch_words();
}

}  // namespace setsuna::embed
