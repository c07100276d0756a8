// The codec's options of each profile: the hooks that daemons(serial = ) set. R thread only.
#pragma once

#include <cstdint>

#include "glue.hpp"
#include "rbridge/codec/codec.hpp"

namespace setsuna::host {

// Never null; valid until the next set_profile_hooks().
const codec::Options* codec_options(std::uint32_t profile) noexcept;
// `hooks`: a value of serial_config(), or NULL. Called for every new profile, because numbers are used again. May jump.
void set_profile_hooks(std::uint32_t profile, SEXP hooks);

}  // namespace setsuna::host
