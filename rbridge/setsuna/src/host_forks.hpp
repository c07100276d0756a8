// Children that user code forks from the host (mclapply) inherit the mapping that R's views of large results point into. The
// parent must not let such a block be reused while a child may still read it: at a fork with live views a pipe is made whose
// writing end only the child keeps; its hang-up says that the child is gone.
#pragma once

#include <cstdint>

namespace setsuna::host {

class HostForks {
 public:
  // Once, after Host exists.
  static void install();
  // R thread: views alive in this process.
  static void add_view();
  static void remove_view();
  // R thread. True: a child may read the block; it is released later, by release_deferred().
  static bool defer_release(std::uint32_t profile, std::uint64_t offset);
  // R thread, at a safe point: releases what no child can read any more.
  static void release_deferred();
};

}  // namespace setsuna::host
