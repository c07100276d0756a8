// Properties of a process that its daemons take over: umask, CPU affinity, threads of numeric libraries.
#pragma once

#include <cstddef>

namespace setsuna::embed {

// The umask, without setting it as umask() does (another thread may be creating files).
int read_umask() noexcept;

inline constexpr std::size_t kAffinityBytes = 1024;  // 8192 CPUs
// Bytes of the mask written to `mask` (kAffinityBytes of room), or -1.
int read_affinity(unsigned char* mask) noexcept;
bool write_affinity(const unsigned char* mask, std::size_t bytes) noexcept;

// Numeric libraries whose thread count can be read and set: OpenMP, OpenBLAS, MKL, BLIS, FlexiBLAS. Looked up among what
// is loaded.
inline constexpr int kThreadLibraryCount = 5;
int library_threads(int library) noexcept;                  // 0: not loaded
void set_library_threads(int library, int count) noexcept;  // nothing happens if it has that many already
// The same in two steps, for all libraries (counts[i] < 1: leave it): before a fork what can be done or looked up there, the
// rest in the child.
void plan_library_threads(const int* counts) noexcept;
void set_planned_threads() noexcept;

}  // namespace setsuna::embed
