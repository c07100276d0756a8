// ALTREP views of bulk data in a ViewSource.
//
// The views of one decode() form a group: an external pointer (the only thing with a finalizer, so that R's collector does not
// get thousands of them) whose protected field lists the views, while each view holds the pointer as its data1. The circle has
// two uses. The group and its views are collected together, after the last of them became unreachable, so a view in the list
// is a valid object for as long as its group exists; and a view always has one reference, so R code that modifies it copies it
// first. One more reference than that one means that some value or variable in R refers to it.
#pragma once

#include "rbridge/codec/codec.hpp"

namespace setsuna::codec {

struct ViewGroup {
  ViewSource* source;  // nullptr: all views of the group were detached
  SEXP pointer;        // the external pointer that owns this record
  std::uint32_t views;
  ViewGroup* next;
  ViewGroup* previous;
};

void register_view_classes(DllInfo* dll);

// An external pointer for the views of one decode(); the caller protects it.
SEXP new_view_group(ViewSource* source);
// Data must lie in the group's source, stay there, and be aligned for the type (real, integer, logical, complex or raw).
SEXP new_view(SEXP group, SEXPTYPE type, const void* data, R_xlen_t n);

}  // namespace setsuna::codec
