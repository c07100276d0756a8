// Bytes that do not fit in memory, in a file without a name: it is gone with its owner, however that ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/unique_fd.hpp"

namespace setsuna::runtime {

class SpillFile {
 public:
  // Its file comes with the first append(), in `folder`.
  explicit SpillFile(std::string folder) : folder_(std::move(folder)) {}

  // False: there is no room, or no file; then nothing was appended.
  bool append(const void* bytes, std::size_t size);
  // False: `size` bytes are not there.
  bool read(std::uint64_t offset, void* bytes, std::size_t size) const;
  std::uint64_t size() const { return size_; }
  // Empties it: the disk has the space back.
  void clear();

 private:
  bool open();

  std::string folder_;
  UniqueFd file_;
  std::uint64_t size_ = 0;
};

}  // namespace setsuna::runtime
