#include "rbridge/embed/working_directory.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <cstring>

namespace setsuna::embed {
namespace {

constexpr std::uint64_t kBriefNs = 400;       // in which nobody calls setwd(): two system calls, from R
constexpr std::uint64_t kCountedNs = 15'000;  // longer tasks cost more than the question

const std::atomic<std::uint64_t>* counter() noexcept {
  static const auto* const found =
      static_cast<const std::atomic<std::uint64_t>*>(::dlsym(RTLD_DEFAULT, "setsuna_directory_changes"));
  return found;
}

// Relaxed: a task's calls are made by this thread; another thread's change is seen a task later, or by changed().
std::uint64_t changes() noexcept { return counter() == nullptr ? 0 : counter()->load(std::memory_order_relaxed); }

}  // namespace

void WorkingDirectory::remember() noexcept {
  changes_ = changes();
  if (::getcwd(path_, sizeof(path_)) == nullptr) {
    std::strcpy(path_, "/");
  }
}

bool WorkingDirectory::changed() noexcept {
  char now[sizeof(path_)];
  const std::uint64_t seen = changes();
  const bool differs = ::getcwd(now, sizeof(now)) == nullptr || std::strcmp(now, path_) != 0;
  changes_ = differs ? changes_ : seen;
  return differs;
}

bool WorkingDirectory::changed_in(std::uint64_t took_ns) noexcept {
  const bool unasked = counter() != nullptr ? took_ns < kCountedNs && changes() == changes_ : took_ns < kBriefNs;
  return !unasked && changed();
}

}  // namespace setsuna::embed
