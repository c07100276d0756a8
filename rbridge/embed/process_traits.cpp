#include "rbridge/embed/process_traits.hpp"

#include <dlfcn.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

namespace setsuna::embed {
namespace {

struct ThreadLibrary {
  const char* get;
  const char* set;
};

constexpr ThreadLibrary kThreadLibraries[kThreadLibraryCount] = {
    {"omp_get_max_threads", "omp_set_num_threads"},
    {"openblas_get_num_threads", "openblas_set_num_threads"},
    {"MKL_Get_Max_Threads", "MKL_Set_Num_Threads"},
    {"bli_thread_get_num_threads", "bli_thread_set_num_threads"},
    {"flexiblas_get_num_threads", "flexiblas_set_num_threads"},
};

constexpr int kOpenMp = 0;
constexpr int kBlis = 3;

struct PlannedThreads {
  void* set = nullptr;  // null: nothing to do
  int count = 0;
};
PlannedThreads planned[kThreadLibraryCount];

void call_setter(int library, void* set, int count) noexcept {
  if (library == kBlis) {  // takes a dim_t
    reinterpret_cast<void (*)(long)>(set)(count);
  } else {
    reinterpret_cast<void (*)(int)>(set)(count);
  }
}

}  // namespace

int read_umask() noexcept {
  int mask = 022;
  if (FILE* status = std::fopen("/proc/self/status", "re")) {
    char line[256];
    while (std::fgets(line, sizeof line, status) != nullptr) {
      unsigned value;
      if (std::sscanf(line, "Umask: %o", &value) == 1) {
        mask = static_cast<int>(value);
        break;
      }
    }
    std::fclose(status);
  }
  return mask;
}

// The raw calls: they know no fixed number of CPUs.
int read_affinity(unsigned char* mask) noexcept {
  return static_cast<int>(::syscall(SYS_sched_getaffinity, 0, kAffinityBytes, mask));
}

bool write_affinity(const unsigned char* mask, std::size_t bytes) noexcept {
  return ::syscall(SYS_sched_setaffinity, 0, bytes, mask) == 0;
}

int library_threads(int library) noexcept {
  void* get = ::dlsym(RTLD_DEFAULT, kThreadLibraries[library].get);
  return get == nullptr ? 0 : reinterpret_cast<int (*)()>(get)();
}

void set_library_threads(int library, int count) noexcept {
  void* set = ::dlsym(RTLD_DEFAULT, kThreadLibraries[library].set);
  if (set == nullptr || library_threads(library) == count) return;
  call_setter(library, set, count);
}

// OpenMP only notes the number; others may start threads at once, and what has threads cannot be forked.
void plan_library_threads(const int* counts) noexcept {
  for (int library = 0; library < kThreadLibraryCount; ++library) {
    planned[library] = {};
    if (counts[library] < 1) continue;
    if (library == kOpenMp) {
      set_library_threads(library, counts[library]);
    } else if (const int now = library_threads(library); now != 0 && now != counts[library]) {
      planned[library] = {::dlsym(RTLD_DEFAULT, kThreadLibraries[library].set), counts[library]};
    }
  }
}

void set_planned_threads() noexcept {
  for (int library = 0; library < kThreadLibraryCount; ++library) {
    if (planned[library].set != nullptr) call_setter(library, planned[library].set, planned[library].count);
  }
}

}  // namespace setsuna::embed
