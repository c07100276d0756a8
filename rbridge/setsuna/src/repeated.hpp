// Large arguments that repeat from call to call travel once: the second time that a vector is seen it becomes a shared
// constant of the profile, and from then on only its hash is computed. R changes objects in place at the same address, so
// identity is never taken from the pointer.
#pragma once

#include <cstdint>

#include "dispatch/task.hpp"
#include "glue.hpp"

namespace setsuna::host {

// `task`: list(expression, globals, locals), protected by the caller; the arguments are named lists or NULL. Returns what is
// left to travel with the task, `task` itself if that is all of it; else *constant is list(NULL, locals, globals) of the
// others, already in the shared memory. May jump.
SEXP split_repeated(std::uint32_t profile, SEXP task, std::uint32_t* constant);

}  // namespace setsuna::host
