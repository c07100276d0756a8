#pragma once

// Tables of the functions that R code reaches as C_<name>. Each host_*.cpp (or other glue file) defines its own table,
//
//   extern const R_CallMethodDef kHostEntries[] = {
//       {"name", reinterpret_cast<DL_FUNC>(&name), number_of_arguments},
//       {nullptr, nullptr, 0},
//   };
//
// declares it below, and is listed in kTables of init.cpp. Adding a function to a file thus touches only that file.

#ifndef R_NO_REMAP
#define R_NO_REMAP
#endif
#ifndef STRICT_R_HEADERS
#define STRICT_R_HEADERS
#endif
#include <R.h>
#include <R_ext/Rdynload.h>
#include <Rinternals.h>

extern const R_CallMethodDef kCodecEntries[];
extern const R_CallMethodDef kInfoEntries[];
extern const R_CallMethodDef kKnobEntries[];
extern const R_CallMethodDef kMapEntries[];
extern const R_CallMethodDef kPromiseEntries[];
extern const R_CallMethodDef kAccessEntries[];
extern const R_CallMethodDef kAddressEntries[];
extern const R_CallMethodDef kZygoteEntries[];
extern const R_CallMethodDef kDaemonEntries[];
extern const R_CallMethodDef kEvaluatorEntries[];
extern const R_CallMethodDef kProfileNameEntries[];
extern const R_CallMethodDef kStatusEntries[];
extern const R_CallMethodDef kTaskEntries[];
extern const R_CallMethodDef kMapSubmitEntries[];
extern const R_CallMethodDef kValueEntries[];
extern const R_CallMethodDef kRelayEntries[];
extern const R_CallMethodDef kTraceEntries[];
// By .External2(), which gives the calling function's frame: environment() would be one more call of a closure.
extern const R_ExternalMethodDef kTaskExternals[];

// A row of such a table. The detour over void (*)() is the cast that compilers accept for any function.
#define SETSUNA_ENTRY(name, function, args) \
  { #name, reinterpret_cast < DL_FUNC>(reinterpret_cast <void (*)()>(&(function))), args }
