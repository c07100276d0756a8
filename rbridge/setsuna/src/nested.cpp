#include "nested.hpp"

#include <algorithm>
#include <vector>

#include "glue.hpp"
#include "guard.hpp"
#include "handle.hpp"
#include "profiles_state.hpp"

namespace setsuna::host {
namespace {

// As it stood after the start or the last everywhere().
ProfileNames* kept_names = nullptr;
std::vector<std::uint32_t> kept_profiles;

std::vector<std::uint32_t> open_profiles() {
  std::vector<std::uint32_t> open;
  if (Host* host = Host::existing()) {
    std::lock_guard<std::mutex> lock(host->mutex());
    for (std::uint32_t id = 0; id < host->profile_count(); ++id) {
      if (Profile* profile = host->profile(id); profile != nullptr && !profile->pool().closed()) {
        open.push_back(id);
      }
    }
  }
  return open;
}

void take_baseline() noexcept {
  guarded([] {
    if (kept_names != nullptr) {
      free_profiles(kept_names);
    }
    kept_names = snapshot_profiles();
    kept_profiles = open_profiles();
  });
}

bool changed() noexcept {
  if (Host::existing() == nullptr) {
    return names_changed(kept_names);
  }
  bool differs = true;
  guarded([&] { differs = names_changed(kept_names) || open_profiles() != kept_profiles; });
  return differs;
}

void close_new() {
  Host* host = Host::existing();
  if (host == nullptr) {
    return;
  }
  for (const std::uint32_t id : open_profiles()) {
    if (std::find(kept_profiles.begin(), kept_profiles.end(), id) == kept_profiles.end()) {
      std::lock_guard<std::mutex> lock(host->mutex());
      host->close_profile(*host->profile(id), true);
    }
  }
  if (kept_profiles.empty()) {
    host->retire_zygotes();
  }
}

void restore() {
  if (!guarded([] {
        close_new();
        restore_profiles(kept_names);
        kept_profiles = open_profiles();  // less what has ended by itself
      })) {
    Rf_error("%s", guard_message);
  }
  // Handles of the closed profiles keep their memory.
  R_gc();
  drain_dropped();
}

constexpr embed::ScopeExtra kScope{take_baseline, changed, restore};

}  // namespace

const embed::ScopeExtra* nested_scope() { return &kScope; }

}  // namespace setsuna::host
