// A task may be a host itself: call mirai() or daemons(). What it started ends with it, unless everywhere() started it.
#pragma once

#include "rbridge/embed/task_scope.hpp"

namespace setsuna::host {

const embed::ScopeExtra* nested_scope();

}  // namespace setsuna::host
