#include "view_memory.hpp"

#include <algorithm>

#include "glue.hpp"
#include "rbridge/codec/codec.hpp"
#include "runtime/sysmem.hpp"

namespace setsuna::host {
namespace {

constexpr std::uint64_t kYoungBytes = std::uint64_t{256} << 20;
constexpr std::uint64_t kFullBytesMost = std::uint64_t{512} << 20;

std::uint64_t held = 0;
std::uint64_t young_mark = kYoungBytes;
std::uint64_t full_mark = 0;  // or full_floor(), if that is more

// A part of the machine that garbage may take.
std::uint64_t full_floor() {
  static const std::uint64_t floor =
      std::clamp<std::uint64_t>(runtime::memory_ceiling().bytes / 16, kYoungBytes, kFullBytesMost);
  return floor;
}

// gc(full = FALSE), for which R has no function: a full one takes twenty times as long in a session that has loaded little.
void collect_young() {
  SEXP no = PROTECT(Rf_ScalarLogical(FALSE));
  SEXP call = PROTECT(Rf_lang4(Rf_install("gc"), no, no, no));
  Rf_eval(call, R_BaseEnv);
  UNPROTECT(2);
  codec::drain_released();
}

void collect_all() {
  R_gc();
  codec::drain_released();
  full_mark = 2 * held;
}

}  // namespace

// Views that were dropped soon are young, and a quick collection frees them; those that have outlived one need a full one.
void ViewMemory::make_room(std::uint64_t bytes) {
  if (held + bytes > young_mark) {
    collect_young();
    if (held + bytes > std::max(full_mark, full_floor())) {
      collect_all();
    }
    young_mark = held + kYoungBytes;
  }
}

void ViewMemory::add(std::uint64_t bytes) { held += bytes; }

void ViewMemory::remove(std::uint64_t bytes) { held -= bytes; }

}  // namespace setsuna::host
