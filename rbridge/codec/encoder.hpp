// What the files of the encoder share.
#pragma once

#include "rbridge/codec/writer.hpp"

namespace setsuna::codec {

// Plain data on the C stack of one encode().
struct Encoder {
  EncodeBuffer* buf;
  SEXP hooks;      // nullptr: none
  unsigned depth;  // of nested nodes
};

// Counts a level of nesting in; an R error where it is too deep. Only nodes that hold others need it.
inline void descend(Encoder& e) {
  R_CheckStack();
  if (++e.depth > kMaxDepth) Rf_error("the value is nested too deeply to be sent (more than %u levels)", kMaxDepth);
}
inline void ascend(Encoder& e) { --e.depth; }

// encode.cpp
void encode_node(Encoder& e, SEXP x);
void encode_attributes(Encoder& e, SEXP x);

// encode_strings.cpp
void encode_string(Encoder& e, SEXP charsxp);
void encode_strings(Encoder& e, SEXP x, R_xlen_t n);
void encode_symbol(Encoder& e, SEXP symbol);

// encode_reference.cpp: environments, external pointers, weak references, promises. A reference object travels in two parts,
// its creation (from which the decoder can make the object) and its content (which may refer back to it).
void encode_reference(Encoder& e, SEXP x);
void encode_promise(Encoder& e, SEXP x);
bool encode_special_environment(Encoder& e, SEXP x);  // global, namespaces...: false if x is none
Tag encode_creation(Encoder& e, SEXP x);
void encode_content(Encoder& e, SEXP x, Tag kind);

// encode_fallback.cpp
void encode_fallback(Encoder& e, SEXP x);

}  // namespace setsuna::codec
