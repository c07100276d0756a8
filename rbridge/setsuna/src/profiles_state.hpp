// Which profile a name means now. R thread only.
#pragma once

#include <cstdint>
#include <string>

#include "glue.hpp"

namespace setsuna::host {

inline constexpr std::uint32_t kNoProfile = 0xFFFFFFFF;

// NULL or "default": the profile that with_daemons()/local_daemons() set, else "default". Error if not one string.
const char* profile_name(SEXP compute);
// The live profile of that name, or kNoProfile.
std::uint32_t current_profile(const char* name);
void set_current_profile(const char* name, std::uint32_t id);
// Was it ever set (and so falls back to fresh processes after a reset)?
bool known_profile(const char* name);
bool is_sync_profile(const char* name);
void set_sync_profile(const char* name, bool sync);
// All names back to what stood in `kept` (from snapshot_profiles()), the default name included.
struct ProfileNames;
ProfileNames* snapshot_profiles();
void restore_profiles(const ProfileNames* kept);
bool names_changed(const ProfileNames* kept);
void free_profiles(ProfileNames* kept);
// The pool of fresh processes, made at its first use. May jump.
std::uint32_t ephemeral_profile();
std::uint32_t* ephemeral_slot();

}  // namespace setsuna::host
