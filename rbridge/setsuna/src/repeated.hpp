// Large arguments that repeat from call to call travel once: the second time that a vector is seen it becomes a shared
// constant of the profile, and from then on only its hash is computed. R changes objects in place at the same address, so
// identity is never taken from the pointer.
#pragma once

#include <cstdint>

#include "dispatch/task.hpp"
#include "glue.hpp"

namespace setsuna::host {

struct SplitArguments {
  SEXP globals = R_NilValue;  // what is left to travel with the task
  SEXP locals = R_NilValue;
  std::uint32_t constant = dispatch::kNoConstant;  // list(NULL, locals, globals), already in the shared memory
};

// `globals`, `locals`: named lists or NULL, protected by the caller. The result's lists are protected by `keep`, a
// list of 2 that the caller protects. May jump.
SplitArguments split_repeated(std::uint32_t profile, SEXP globals, SEXP locals, SEXP keep);

}  // namespace setsuna::host
