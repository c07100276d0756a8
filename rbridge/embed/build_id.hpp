// What host and daemon must have in common beside the layout: the package version and the R version.
#pragma once

#include <Rversion.h>

#include "runtime/segment.hpp"

namespace setsuna::embed {

inline constexpr char kPackageVersion[] = "0.1.0";

constexpr runtime::BuildId build_id() {
  std::uint64_t hash = 0xCBF29CE484222325ULL;  // FNV-1a
  for (const char* c = kPackageVersion; *c != '\0'; ++c) {
    hash = (hash ^ static_cast<std::uint8_t>(*c)) * 0x100000001B3ULL;
  }
  return {hash, R_VERSION};
}

}  // namespace setsuna::embed
