// Under AddressSanitizer, free blocks of the arena may not be touched; otherwise nothing.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define SETSUNA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SETSUNA_ASAN 1
#endif
#endif

#ifdef SETSUNA_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace setsuna::runtime::poison {

inline void forbid([[maybe_unused]] const void* address, [[maybe_unused]] std::size_t bytes) {
#ifdef SETSUNA_ASAN
  __asan_poison_memory_region(address, bytes);
#endif
}

inline void enable([[maybe_unused]] const void* address, [[maybe_unused]] std::size_t bytes) {
#ifdef SETSUNA_ASAN
  __asan_unpoison_memory_region(address, bytes);
#endif
}

}  // namespace setsuna::runtime::poison
