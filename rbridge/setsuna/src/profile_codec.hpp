// How arguments of each profile are encoded: the hooks that daemons(serial = ) set, and what its configuration says. R thread
// only.
#pragma once

#include <cstdint>

#include "glue.hpp"
#include "rbridge/codec/codec.hpp"

namespace setsuna::host {

// Never null; valid until the next set_profile_encoding().
const codec::Options* codec_options(std::uint32_t profile) noexcept;
// Arguments up to this size lie in their task's slot.
std::size_t inline_limit(std::uint32_t profile) noexcept;
// `hooks`: a value of serial_config(), or NULL. Called for every new profile, because numbers are used again. May jump.
void set_profile_encoding(std::uint32_t profile, SEXP hooks, bool portable, std::size_t inline_bytes);

}  // namespace setsuna::host
