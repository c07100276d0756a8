#include "runtime/huge.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>

#include "runtime/assert.hpp"
#include "runtime/layout.hpp"

namespace setsuna::runtime {
namespace {

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // Linux 6.1
#endif

bool allocate(int fd, std::uint64_t offset, std::size_t bytes) {
  int rc;
  do {
    rc = ::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  } while (rc != 0 && errno == EINTR);
  return rc == 0;
}

// The collapse wants one page to exist in each 2 MB. POPULATE_WRITE reports a failure where a plain store would die.
bool touch(int fd, std::byte* address, std::uint64_t offset) {
  if (::madvise(address, kPageBytes, MADV_POPULATE_WRITE) == 0) {
    return true;
  }
  return errno == EINVAL && allocate(fd, offset, kPageBytes);
}

}  // namespace

bool make_resident(int fd, std::byte* address, std::uint64_t file_offset, std::size_t bytes) {
  SETSUNA_ASSERT(bytes % kExtentBytes == 0 && file_offset % kExtentBytes == 0);
  SETSUNA_ASSERT(reinterpret_cast<std::uintptr_t>(address) % kExtentBytes == 0);
  for (std::size_t done = 0; done < bytes; done += kExtentBytes) {
    if (!touch(fd, address + done, file_offset + done)) {
      return false;
    }
  }
  // EINVAL: an old kernel, or one without huge pages. ENOMEM, EAGAIN, EBUSY: no huge page now. Small pages do, then.
  if (::madvise(address, bytes, MADV_COLLAPSE) == 0) {
    return true;
  }
  return allocate(fd, file_offset, bytes);
}

}  // namespace setsuna::runtime
