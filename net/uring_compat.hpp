// liburing, with what its version 2.3 lacks or what its headers get wrong in C++.
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>

#ifndef IORING_SETUP_COOP_TASKRUN
#define IORING_SETUP_COOP_TASKRUN (1U << 8)  // Linux 5.19
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)  // Linux 6.0
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)  // Linux 6.1
#endif

namespace setsuna::net::compat {

// A ring of provided buffers as the kernel sees it. (Some versions of liburing declare it with an empty struct in front
// of a flexible array, which has another offset in C++ than in C.) The tail lies in the reserved field of entry 0.
struct BufferRingEntry {
  std::uint64_t address;
  std::uint32_t bytes;
  std::uint16_t id;
  std::uint16_t tail;
};
static_assert(sizeof(BufferRingEntry) == 16 && offsetof(BufferRingEntry, tail) == 14);
static_assert(sizeof(io_uring_buf) == sizeof(BufferRingEntry));

}  // namespace setsuna::net::compat
