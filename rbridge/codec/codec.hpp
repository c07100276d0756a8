// The codec: R values <-> bytes. rbridge/codec/format.hpp is the specification of the bytes.
//
// A stream is [head][zero padding][bulk data]. Vectors of plain numbers with kBigBytes or more of data are not copied into
// the head: encode() remembers where their data is (a BigSpan), write_encoded() copies it once, straight to its destination,
// and decode() can hand out an ALTREP view of it there instead of copying it again.
//
// Threads: everything that takes or returns a SEXP runs on the R thread only. write_encoded() and hash_encoded() do not call R.
// Errors: an R error (long jump). All state is plain data owned by the caller, so a jump leaks nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rbridge/codec/r_api.hpp"
#include "runtime/hash.hpp"

namespace setsuna::codec {

inline constexpr std::size_t kBigBytes = 4096;  // data of at least this size goes behind the head
inline constexpr std::size_t kMinViewBytes =
    16384;  // smaller data is copied on decode: a view costs as much as the copy
inline constexpr std::size_t kBulkAlign = 64;
inline constexpr std::size_t kKeepBytes = std::size_t{1} << 20;  // encode_reset() gives memory above this back

struct BigSpan {
  const void* data;  // owned by the encoded R object: the caller protects that until write_encoded() has run
  std::size_t bytes;
  std::size_t offset;    // from the stream's start, a multiple of kBulkAlign
  std::size_t head_pos;  // where the head holds this offset
};

struct RefSlot;  // encoder's table of environments and external pointers (ref_table.hpp)

// Plain data; zero-initialise. Memory is kept between uses. Not to be copied while in use.
struct EncodeBuffer {
  std::uint8_t* head;
  std::size_t head_len, head_cap;
  BigSpan* spans;
  std::size_t span_count, span_cap;
  std::size_t total;       // size of the whole stream in bytes; up to date after every call below
  std::size_t bulk_bytes;  // size of the bulk part
  std::size_t bulk_start;  // its offset, 0 while there is none
  RefSlot* refs;
  std::size_t ref_count, ref_cap;
  bool has_references;  // since the last reset: an environment of its own or an external pointer was encoded, so a
                        // decoded copy carries state and must not be shared between tasks
};

struct Options {
  SEXP hooks;             // value of serial_config(), or nullptr / NULL for none
  bool portable = false;  // encode by R_Serialize alone; decode() takes either
};

using runtime::Hash128;

// --- encode ---------------------------------------------------------------------------------------------------------------
void encode_reset(EncodeBuffer* buf) noexcept;
void encode_free(EncodeBuffer* buf) noexcept;
// Raw bytes for the caller's own framing; R error when memory is short.
void put_bytes(EncodeBuffer* buf, const void* data, std::size_t size);
// Appends one value. May run R code only through options->hooks or an ALTREP class of another package.
void encode(SEXP x, EncodeBuffer* buf, const Options* options = nullptr);
// Exactly buf->total bytes.
void write_encoded(const EncodeBuffer* buf, std::uint8_t* dst) noexcept;
// XXH3-128 of what write_encoded() would write.
Hash128 hash_encoded(const EncodeBuffer* buf) noexcept;

// --- decode ---------------------------------------------------------------------------------------------------------------
struct ViewGroup;  // the views that one decode() made (views.hpp)

// One mapped block that views point into. Plain data; zero-initialise, then set base, len, on_release and owner. It must stay
// where it is until it is released.
struct ViewSource {
  const std::uint8_t* base;  // mapped MAP_PRIVATE and writable: R code may ask for a writable pointer
  std::size_t len;
  std::uint32_t live_views;         // views that are not detached and not yet finalised
  bool writable_given;              // some code got a writable pointer: the pages may be private copies by now
  bool handed_over;                 // release_on_last_view() was called
  void (*on_release)(ViewSource*);  // from drain_released(), once, after the last view of a handed-over source is gone
  void* owner;
  ViewSource* next_released;
  ViewGroup* groups;
};

struct Cursor {
  const std::uint8_t* p;     // next byte
  const std::uint8_t* end;   // end of the whole stream
  const std::uint8_t* base;  // start of the whole stream: offsets of bulk data count from here
  ViewSource* source;        // nullptr: always copy
};

// One value; advances cursor->p. Damaged bytes are an R error. Reads nothing outside [base, end).
// After an error, views that were made before it may still point into the source until the collector finds them: call
// detach_all() before the block goes.
SEXP decode(Cursor* cursor, const Options* options = nullptr);

// The caller has no more use for the source itself. Returns the views left: at 0 the caller releases the block now, otherwise
// on_release() will be called.
std::size_t release_on_last_view(ViewSource* source);
// The same, after detaching the views that nothing in R references any more (a later access to one is an R error). Values that
// the caller still holds count as references: drop_value() them first.
std::size_t detach_unreferenced(ViewSource* source);
// All views, referenced or not: for a block that must go at once.
void detach_all(ViewSource* source);
// Empties a decoded list that only the caller refers to, so that the views in it are unreferenced. Parts that something else
// refers to as well stay as they are.
void drop_value(SEXP list);
// At a safe point on the R thread: calls on_release() for the sources whose last view is gone. (Finalizers only queue them.)
void drain_released();
bool is_view(SEXP x);
bool is_detached_view(SEXP x);

// Once per process, before the first encode or decode: registers the view classes.
void initialize(DllInfo* dll);

}  // namespace setsuna::codec
