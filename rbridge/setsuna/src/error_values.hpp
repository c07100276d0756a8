// The R values that stand for a missing result.
#pragma once

#include "dispatch/task.hpp"
#include "glue.hpp"

namespace setsuna::host {

// 'unresolved' logi NA; one shared object.
SEXP unresolved_value();
// errorValue with what is known of the daemon's death in its attributes.
SEXP error_value(dispatch::ErrorCode code, const dispatch::DeathNote* death);

}  // namespace setsuna::host
