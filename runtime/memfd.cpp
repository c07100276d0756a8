#include "runtime/memfd.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/assert.hpp"
#include "runtime/layout.hpp"
#include "runtime/sysmem.hpp"

namespace setsuna::runtime {
namespace {

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

std::string describe(const char* call, int code) { return std::string(call) + ": " + std::strerror(code); }

// What a failed mmap means for the user: the kernel only says "cannot allocate memory".
std::string describe_map(std::size_t bytes, int code) {
  std::string text = "cannot map " + std::to_string(bytes >> 20) + " MB of shared memory: " + std::strerror(code);
  if (code == ENOMEM && soft_limit(RLIMIT_AS)) {
    text += "; the limit on address space is " + std::to_string(*soft_limit(RLIMIT_AS) >> 20) +
            " MB (raise it with `ulimit -v`, or ask for less with `memory`)";
  } else if (code == ENOMEM && soft_limit(RLIMIT_DATA)) {
    text += "; the limit on data is " + std::to_string(*soft_limit(RLIMIT_DATA) >> 20) +
            " MB (raise it with `ulimit -d`, or ask for less with `memory`)";
  }
  return text;
}

Mapping map_aligned(int fd, std::size_t bytes, int flags, std::string* error) {
  SETSUNA_ASSERT(bytes > 0 && bytes % kPageBytes == 0);
  // Reserve more than needed, then place the map on the first 2 MB boundary inside and give the rest back.
  const std::size_t reserved = bytes + kExtentBytes;
  void* raw = ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) {
    *error = describe_map(bytes, errno);
    return {};
  }
  auto* start = static_cast<std::byte*>(raw);
  const std::size_t lead = (kExtentBytes - reinterpret_cast<std::uintptr_t>(raw) % kExtentBytes) % kExtentBytes;
  std::byte* wanted = start + lead;
  void* base = ::mmap(wanted, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
  if (base == MAP_FAILED) {
    *error = describe_map(bytes, errno);
    ::munmap(raw, reserved);
    return {};
  }
  if (lead > 0) {
    ::munmap(start, lead);
  }
  if (reserved - lead > bytes) {
    ::munmap(wanted + bytes, reserved - lead - bytes);
  }
  return {wanted, bytes};
}

}  // namespace

void Mapping::reset() noexcept {
  if (base_ != nullptr) {
    ::munmap(base_, bytes_);
    base_ = nullptr;
  }
}

UniqueFd create_memfd(const char* name, std::uint64_t bytes, std::string* error) {
  // Before the call: beyond the limit, ftruncate does not fail but sends SIGXFSZ, which ends the process.
  if (const auto limit = soft_limit(RLIMIT_FSIZE); limit && bytes > *limit) {
    *error = "a shared memory file of " + std::to_string(bytes >> 20) + " MB is above the limit on file size, " +
             std::to_string(*limit >> 20) + " MB: raise it with `ulimit -f`";
    return {};
  }
  // NOEXEC_SEAL (Linux 6.3): some systems refuse executable memory files, and nothing here is code.
  UniqueFd fd(static_cast<int>(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)));
  if (!fd && errno == EINVAL) {
    fd.reset(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  }
  if (!fd) {
    *error = describe("memfd_create", errno);
    return {};
  }
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    *error = describe("ftruncate", errno);
    return {};
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, kSizeSeals | F_SEAL_SEAL) != 0) {
    *error = describe("sealing a memfd", errno);
    return {};
  }
  return fd;
}

bool is_sealed_memfd(int fd) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & kSizeSeals) == kSizeSeals;
}

UniqueFd reopen_for_reading(int fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

Mapping map_shared(int fd, std::size_t bytes, std::string* error) {
  Mapping map = map_aligned(fd, bytes, MAP_SHARED, error);
  if (map && ::madvise(map.base(), bytes, MADV_DONTFORK) != 0) {
    *error = describe("madvise(MADV_DONTFORK)", errno);
    return {};
  }
  return map;
}

Mapping map_view(int fd, std::size_t bytes, std::string* error) {
  // NORESERVE: a private writable map of this size is no promise to use that much memory, and the kernel would refuse it.
  Mapping map = map_aligned(fd, bytes, MAP_PRIVATE | MAP_NORESERVE, error);
  if (map) {
    ::madvise(map.base(), bytes, MADV_DONTDUMP);  // a core file has these bytes once already
  }
  return map;
}

}  // namespace setsuna::runtime
