// The one place where the codec takes in R's headers, so that every file sees the same unmapped names.
#pragma once

#ifndef R_NO_REMAP
#define R_NO_REMAP
#endif
#ifndef STRICT_R_HEADERS
#define STRICT_R_HEADERS
#endif

#include <cstddef>
#include <cstdint>

// Altrep.h needs Rinternals.h before it.
// clang-format off
#include <R.h>
#include <Rinternals.h>
#include <Rversion.h>
#include <R_ext/Altrep.h>
#include <R_ext/Rdynload.h>
// clang-format on
