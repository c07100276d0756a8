#include "repeated.hpp"

#include <cstring>

#include "guard.hpp"
#include "rbridge/codec/codec.hpp"
#include "runtime/hash.hpp"
#include "submit.hpp"

namespace setsuna::host {
namespace {

constexpr std::size_t kLargeBytes = std::size_t{256} << 10;
constexpr int kSeenMax = 64;
constexpr int kKeptMax = 8;

codec::EncodeBuffer constant_buffer;

std::size_t plain_bytes(SEXP x) {
  const auto n = static_cast<std::size_t>(Rf_xlength(x));
  switch (TYPEOF(x)) {
    case REALSXP: return n * sizeof(double);
    case INTSXP:
    case LGLSXP: return n * sizeof(int);
    case CPLXSXP: return n * sizeof(Rcomplex);
    case RAWSXP: return n;
    default: return 0;
  }
}

bool is_large(SEXP x) { return plain_bytes(x) >= kLargeBytes && (!ALTREP(x) || codec::is_view(x)); }

// A cheap first look: length and a few samples. Equal vectors have equal prints; different ones mostly not.
std::uint64_t print_of(SEXP x) {
  constexpr std::size_t kSamples = 64;
  const auto* data = static_cast<const std::uint8_t*>(DATAPTR_RO(x));
  const std::size_t bytes = plain_bytes(x);
  std::uint64_t hash = 0xCBF29CE484222325ULL ^ (bytes + static_cast<std::size_t>(TYPEOF(x)));
  for (std::size_t i = 0; i < kSamples; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, data + (bytes - sizeof(word)) / kSamples * i, sizeof(word));
    hash = (hash ^ word) * 0x100000001B3ULL;
  }
  return hash;
}

struct Seen {
  std::uint64_t print = 0;
  std::uint64_t used = 0;
} seen[kSeenMax];
std::uint64_t tick = 0;

bool seen_before(std::uint64_t print) {
  int oldest = 0;
  for (int i = 0; i < kSeenMax; ++i) {
    if (seen[i].print == print) {
      seen[i].used = ++tick;
      return true;
    }
    oldest = seen[i].used < seen[oldest].used ? i : oldest;
  }
  seen[oldest] = {print, ++tick};
  return false;
}

// The constants that this cache keeps alive between calls: it owns one reference to each.
struct Kept {
  std::uint64_t profile = 0;  // serial
  std::uint32_t constant = dispatch::kNoConstant;
  std::uint64_t used = 0;
} kept[kKeptMax];

void release_kept(Host& host, const Kept& gone) {
  if (Profile* profile = host.profile_by_serial(gone.profile); profile != nullptr) {
    profile->pool().unpin_constant(gone.constant);
  }
}

// Takes over the caller's reference. Under the mutex.
void keep_constant(Host& host, std::uint64_t profile, std::uint32_t constant) {
  int place = 0;
  for (int i = 0; i < kKeptMax; ++i) {
    if (kept[i].constant == constant && kept[i].profile == profile) {
      kept[i].used = ++tick;
      host.profile_by_serial(profile)->pool().release_constant(constant);  // it has one already
      return;
    }
    place = kept[i].used < kept[place].used ? i : place;
  }
  if (kept[place].constant != dispatch::kNoConstant) {
    release_kept(host, kept[place]);
  }
  kept[place] = {profile, constant, ++tick};
  host.profile_by_serial(profile)->pool().pin_constant(constant);
}

// Under the hash: an existing constant of the profile, or a new one. The cache keeps it from now on, so that it is there
// when the task that the caller makes refers to it.
std::uint32_t find_or_add(std::uint32_t id) {
  const codec::Hash128 hash = codec::hash_encoded(&constant_buffer);
  std::uint32_t found = dispatch::kNoConstant;
  guarded([&] {
    Host& host = Host::get();
    std::lock_guard<std::mutex> lock(host.mutex());
    const std::uint64_t words[2] = {hash.low, hash.high};
    if (Profile* profile = host.profile(id)) {
      found = profile->pool().find_constant(words, constant_buffer.total);
      if (found != dispatch::kNoConstant) {
        profile->pool().retain_constant(found);
      }
    }
  });
  if (found == dispatch::kNoConstant && try_add_constant(id, constant_buffer, &found) != SubmitOutcome::kDone) {
    return dispatch::kNoConstant;  // no room: it travels by value, which waits or fails with a message
  }
  guarded([&] {
    Host& host = Host::get();
    std::lock_guard<std::mutex> lock(host.mutex());
    keep_constant(host, host.profile(id)->serial, found);
  });
  return found;
}

R_xlen_t mark_repeated(SEXP list, bool* repeated) {
  R_xlen_t count = 0;
  for (R_xlen_t i = 0; i < Rf_xlength(list); ++i) {
    SEXP x = VECTOR_ELT(list, i);
    repeated[i] = is_large(x) && seen_before(print_of(x));
    count += repeated[i] ? 1 : 0;
  }
  return count;
}

// The items for which repeated[i] == wanted.
SEXP select(SEXP list, const bool* repeated, bool wanted, R_xlen_t count) {
  SEXP names = Rf_getAttrib(list, R_NamesSymbol);
  SEXP out = PROTECT(Rf_allocVector(VECSXP, count));
  SEXP out_names = PROTECT(Rf_allocVector(STRSXP, count));
  for (R_xlen_t i = 0, k = 0; i < Rf_xlength(list); ++i) {
    if (repeated[i] == wanted) {
      SET_VECTOR_ELT(out, k, VECTOR_ELT(list, i));
      SET_STRING_ELT(out_names, k++, STRING_ELT(names, i));
    }
  }
  Rf_setAttrib(out, R_NamesSymbol, out_names);
  UNPROTECT(2);
  return out;
}

bool any_large(SEXP list) {
  for (R_xlen_t i = 0; i < Rf_xlength(list); ++i) {
    if (is_large(VECTOR_ELT(list, i))) {
      return true;
    }
  }
  return false;
}

}  // namespace

SEXP split_repeated(std::uint32_t profile, SEXP task, std::uint32_t* constant) {
  SEXP globals = VECTOR_ELT(task, 1);
  SEXP locals = VECTOR_ELT(task, 2);
  if (!any_large(globals) && !any_large(locals)) {
    return task;
  }
  auto* g = reinterpret_cast<bool*>(R_alloc(static_cast<std::size_t>(Rf_xlength(globals)) + 1, sizeof(bool)));
  auto* l = reinterpret_cast<bool*>(R_alloc(static_cast<std::size_t>(Rf_xlength(locals)) + 1, sizeof(bool)));
  const R_xlen_t from_globals = mark_repeated(globals, g);
  const R_xlen_t from_locals = mark_repeated(locals, l);
  if (from_globals + from_locals == 0) {
    return task;
  }
  SEXP repeated = PROTECT(Rf_allocVector(VECSXP, 3));
  SET_VECTOR_ELT(repeated, 1, select(locals, l, true, from_locals));
  SET_VECTOR_ELT(repeated, 2, select(globals, g, true, from_globals));
  codec::encode_reset(&constant_buffer);
  const std::uint64_t shareable = 1;  // plain vectors have no state
  codec::put_bytes(&constant_buffer, &shareable, sizeof(shareable));
  codec::encode(repeated, &constant_buffer, nullptr);
  *constant = find_or_add(profile);
  UNPROTECT(1);
  if (*constant == dispatch::kNoConstant) {
    return task;
  }
  SEXP rest = PROTECT(Rf_allocVector(VECSXP, 3));
  SET_VECTOR_ELT(rest, 0, VECTOR_ELT(task, 0));
  SET_VECTOR_ELT(rest, 1, select(globals, g, false, Rf_xlength(globals) - from_globals));
  SET_VECTOR_ELT(rest, 2, select(locals, l, false, Rf_xlength(locals) - from_locals));
  UNPROTECT(1);
  return rest;
}

}  // namespace setsuna::host
