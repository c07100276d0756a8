// How R says what a daemon is: for its own calls, and for those of the fork server.
#pragma once

#include <cstdint>

#include "rbridge/embed/evaluator.hpp"

namespace setsuna::host {

// numbers: cleanup, forked, idletime, walltime, maxtasks (-1: none). stream: 6 integers or NULL.
embed::EvaluatorOptions evaluator_options(SEXP numbers, SEXP stream);

// From the base state of a profile (6 numbers) to that of its daemon: stream `index` + 1 of the base; later incarnations
// (epochs) go on in substreams of it.
void to_daemon_stream(std::int32_t* stream, std::uint32_t index, std::uint32_t epoch);

}  // namespace setsuna::host
