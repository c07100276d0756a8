#include "runtime/spill_file.hpp"

#include <cerrno>
#include <cstdlib>

namespace setsuna::runtime {

namespace {

constexpr int kLowestDescriptor = 1024;  // out of the way of select()

// Where the file system knows no O_TMPFILE: one with a name, for a moment.
int open_named(const std::string& folder) {
  std::string path = folder + "/.setsuna-spill-XXXXXX";
  const int fd = ::mkostemp(path.data(), O_CLOEXEC);
  if (fd >= 0) {
    ::unlink(path.c_str());
  }
  return fd;
}

}  // namespace

bool SpillFile::open() {
  if (file_) {
    return true;
  }
  const int fd = ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  UniqueFd opened(fd >= 0 ? fd : open_named(folder_));
  UniqueFd high = opened ? opened.duplicate(kLowestDescriptor) : UniqueFd();
  file_ = high ? std::move(high) : std::move(opened);
  return static_cast<bool>(file_);
}

bool SpillFile::append(const void* bytes, std::size_t size) {
  if (!open()) {
    return false;
  }
  std::size_t done = 0;
  while (done < size) {
    const ssize_t wrote =
        ::pwrite(file_.get(), static_cast<const char*>(bytes) + done, size - done, static_cast<off_t>(size_ + done));
    if (wrote < 0 && errno == EINTR) {
      continue;
    }
    if (wrote <= 0) {
      return false;  // what is behind size_ is overwritten by the next
    }
    done += static_cast<std::size_t>(wrote);
  }
  size_ += size;
  return true;
}

bool SpillFile::read(std::uint64_t offset, void* bytes, std::size_t size) const {
  if (offset > size_ || size > size_ - offset) {
    return false;
  }
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got =
        ::pread(file_.get(), static_cast<char*>(bytes) + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      return false;
    }
    done += static_cast<std::size_t>(got);
  }
  return true;
}

void SpillFile::clear() {
  if (file_ && size_ != 0) {
    static_cast<void>(::ftruncate(file_.get(), 0) == 0);  // else what is there is overwritten
  }
  size_ = 0;
}

}  // namespace setsuna::runtime
