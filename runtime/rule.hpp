// Names a rule where the code keeps it: `if (SETSUNA_RULE(recheck)) ...`. Always true in the product. A test that
// explores interleavings takes the macro over and switches one rule off at a time, to show that it is needed.
#pragma once

#ifndef SETSUNA_RULE
#define SETSUNA_RULE(name) true
#endif
