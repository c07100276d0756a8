// Keeps the token of a daemon's connection out of other users' `ps`.
#pragma once

#include <span>

namespace setsuna::embed {

// Overwrites the values of `token = '...'` (R code, spaces perhaps written ~+~ as Rscript does) and of `--token ...` with x.
// `text`: arguments, each ended by a NUL.
void scrub_tokens(std::span<char> text);

// In the arguments with which this process was started, as /proc shows them.
void scrub_own_command_line();

}  // namespace setsuna::embed
