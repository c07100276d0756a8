// A table that begins as zeros and whose pages come when they are first written to. calloc() promises the same only for large
// ones: it clears what was in use before, and so touches all of it.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <type_traits>

#include "runtime/memfd.hpp"

namespace setsuna::runtime {

template <typename T>
class ZeroTable {
  static_assert(std::is_trivial_v<T>);

 public:
  ZeroTable() = default;
  // Empty if there is no memory for it.
  explicit ZeroTable(std::size_t count) {
    void* memory =
        ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) {
      memory_ = Mapping(static_cast<std::byte*>(memory), count * sizeof(T));
    }
  }

  explicit operator bool() const { return static_cast<bool>(memory_); }
  T& operator[](std::size_t i) { return values()[i]; }
  const T& operator[](std::size_t i) const { return values()[i]; }

 private:
  T* values() const { return reinterpret_cast<T*>(memory_.base()); }

  Mapping memory_;
};

}  // namespace setsuna::runtime
