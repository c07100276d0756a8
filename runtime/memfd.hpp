// Sealed shared memory files and the two ways in which a process maps them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "runtime/unique_fd.hpp"

namespace setsuna::runtime {

// An unnamed, sparse, close-on-exec file in memory of exactly `bytes`, sealed against shrinking and growing: no peer can
// make an access of another one fault. Empty on failure, with the reason in *error.
UniqueFd create_memfd(const char* name, std::uint64_t bytes, std::string* error);

// True if a descriptor from elsewhere is such a file: a memfd that nobody can resize any more.
bool is_sealed_memfd(int fd);

// The same file opened once more, for reading only: whoever is given this descriptor cannot map it for writing. Empty on
// failure, with errno.
UniqueFd reopen_for_reading(int fd);

// Owns a range of the address space.
class Mapping {
 public:
  Mapping() = default;
  Mapping(std::byte* base, std::size_t bytes) : base_(base), bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    reset();
    base_ = std::exchange(other.base_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { reset(); }

  std::byte* base() const { return base_; }
  std::size_t bytes() const { return bytes_; }
  explicit operator bool() const { return base_ != nullptr; }
  void reset() noexcept;
  // Leaves the range mapped for ever.
  std::byte* release() { return std::exchange(base_, nullptr); }

 private:
  std::byte* base_ = nullptr;
  std::size_t bytes_ = 0;
};

// Read and write, shared, 2 MB aligned (so that huge pages can be used), and not inherited by fork: a child of user code
// must not be able to act on the queue. Empty on failure, with the reason in *error.
Mapping map_shared(int fd, std::size_t bytes, std::string* error);

// Private (writes are copies of this process alone), 2 MB aligned, inherited by fork: what large vectors point into.
Mapping map_view(int fd, std::size_t bytes, std::string* error);

}  // namespace setsuna::runtime
