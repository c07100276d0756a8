#include "profile_codec.hpp"

#include <cstdlib>

namespace setsuna::host {
namespace {

constexpr codec::Options kNone{nullptr};

// By profile; empty as long as no profile has hooks.
codec::Options* table = nullptr;
std::uint32_t table_size = 0;

void grow_to(std::uint32_t size) {
  auto* grown = static_cast<codec::Options*>(std::realloc(table, size * sizeof(codec::Options)));
  if (grown == nullptr) {
    Rf_error("not enough memory");
  }
  for (std::uint32_t i = table_size; i < size; ++i) {
    grown[i] = kNone;
  }
  table = grown;
  table_size = size;
}

}  // namespace

const codec::Options* codec_options(std::uint32_t profile) noexcept {
  return profile < table_size ? &table[profile] : &kNone;
}

void set_profile_hooks(std::uint32_t profile, SEXP hooks) {
  if (profile >= table_size) {
    if (hooks == R_NilValue) {
      return;
    }
    grow_to(profile + 1);
  }
  if (SEXP before = table[profile].hooks; before != nullptr) {
    R_ReleaseObject(before);
    table[profile].hooks = nullptr;
  }
  if (hooks != R_NilValue) {
    R_PreserveObject(hooks);
    table[profile].hooks = hooks;
  }
}

}  // namespace setsuna::host
