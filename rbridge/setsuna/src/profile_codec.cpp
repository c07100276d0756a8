#include "profile_codec.hpp"

#include <cstdlib>

#include "runtime/layout.hpp"

namespace setsuna::host {
namespace {

struct Encoding {
  codec::Options options;
  std::size_t inline_bytes;
};
constexpr Encoding kUsual{{nullptr, false}, runtime::kInlineArgBytes};

// By profile; empty as long as all are the usual one.
Encoding* table = nullptr;
std::uint32_t table_size = 0;

void grow_to(std::uint32_t size) {
  auto* grown = static_cast<Encoding*>(std::realloc(table, size * sizeof(Encoding)));
  if (grown == nullptr) {
    Rf_error("not enough memory");
  }
  for (std::uint32_t i = table_size; i < size; ++i) {
    grown[i] = kUsual;
  }
  table = grown;
  table_size = size;
}

const Encoding& encoding_of(std::uint32_t profile) { return profile < table_size ? table[profile] : kUsual; }

}  // namespace

const codec::Options* codec_options(std::uint32_t profile) noexcept { return &encoding_of(profile).options; }

std::size_t inline_limit(std::uint32_t profile) noexcept { return encoding_of(profile).inline_bytes; }

void set_profile_encoding(std::uint32_t profile, SEXP hooks, bool portable, std::size_t inline_bytes) {
  if (profile >= table_size) {
    if (hooks == R_NilValue && portable == kUsual.options.portable && inline_bytes == kUsual.inline_bytes) {
      return;
    }
    grow_to(profile + 1);
  }
  Encoding& encoding = table[profile];
  encoding.options.portable = portable;
  encoding.inline_bytes = inline_bytes;
  if (SEXP before = encoding.options.hooks; before != nullptr) {
    R_ReleaseObject(before);
    encoding.options.hooks = nullptr;
  }
  if (hooks != R_NilValue) {
    R_PreserveObject(hooks);
    encoding.options.hooks = hooks;
  }
}

}  // namespace setsuna::host
