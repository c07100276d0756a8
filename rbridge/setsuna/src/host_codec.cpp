// The codec as R code sees it: for tests and for `serial_config()` hooks.
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "glue.hpp"
#include "rbridge/codec/codec.hpp"

namespace {

using namespace setsuna;

codec::EncodeBuffer buffer;  // memory kept between calls

// One encoded value in an anonymous private mapping, as an arena block would be.
struct Block {
  codec::ViewSource source;
  std::size_t mapped;
};
int live_blocks = 0;
Block* last_block = nullptr;

void free_block(codec::ViewSource* source) {
  auto* block = static_cast<Block*>(source->owner);
  if (last_block == block) last_block = nullptr;
  munmap(const_cast<std::uint8_t*>(source->base), block->mapped);
  std::free(block);
  --live_blocks;
}

Block* map_block(SEXP bytes) {
  const auto size = static_cast<std::size_t>(XLENGTH(bytes));
  const std::size_t mapped = size == 0 ? 1 : size;
  auto* block = static_cast<Block*>(std::calloc(1, sizeof(Block)));
  void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == nullptr || base == MAP_FAILED) Rf_error("not enough memory");
  if (size != 0) std::memcpy(base, RAW_RO(bytes), size);
  block->source.base = static_cast<const std::uint8_t*>(base);
  block->source.len = size;
  block->source.on_release = free_block;
  block->source.owner = block;
  block->mapped = mapped;
  ++live_blocks;
  return block;
}

SEXP decode_all(const std::uint8_t* data, std::size_t size, codec::ViewSource* source, const codec::Options* options) {
  codec::Cursor cursor{data, data + size, data, source};
  return codec::decode(&cursor, options);
}

SEXP codec_encode(SEXP x, SEXP hooks) {
  const codec::Options options{hooks};
  codec::encode_reset(&buffer);
  codec::encode(x, &buffer, &options);
  SEXP bytes = Rf_allocVector(RAWSXP, static_cast<R_xlen_t>(buffer.total));
  codec::write_encoded(&buffer, RAW(bytes));
  return bytes;
}

// An R error leaves the block mapped: only tests come here with damaged bytes and views.
SEXP codec_decode(SEXP bytes, SEXP views, SEXP hooks) {
  if (TYPEOF(bytes) != RAWSXP) Rf_error("`bytes` must be a raw vector");
  codec::drain_released();
  const codec::Options options{hooks};
  if (!Rf_asLogical(views))
    return decode_all(RAW_RO(bytes), static_cast<std::size_t>(XLENGTH(bytes)), nullptr, &options);
  Block* block = map_block(bytes);
  SEXP x = Rf_protect(decode_all(block->source.base, block->source.len, &block->source, &options));
  last_block = block;
  if (codec::release_on_last_view(&block->source) == 0) free_block(&block->source);
  Rf_unprotect(1);
  return x;
}

SEXP codec_hash(SEXP x) {
  codec::encode_reset(&buffer);
  codec::encode(x, &buffer);
  const codec::Hash128 hash = codec::hash_encoded(&buffer);
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high),
                static_cast<unsigned long long>(hash.low));
  return Rf_mkString(text);
}

SEXP codec_is_view(SEXP x) {
  if (!codec::is_view(x)) return Rf_ScalarLogical(NA_LOGICAL);
  return Rf_ScalarLogical(!codec::is_detached_view(x));
}

// Of the block behind the latest decode with views: c(views, writable), or NULL if it is gone.
SEXP codec_block_state() {
  if (last_block == nullptr) return R_NilValue;
  SEXP state = Rf_allocVector(INTSXP, 2);
  INTEGER(state)[0] = static_cast<int>(last_block->source.live_views);
  INTEGER(state)[1] = last_block->source.writable_given;
  return state;
}

// What a daemon does after a task: the number of views left.
SEXP codec_detach() {
  if (last_block == nullptr) return Rf_ScalarInteger(0);
  codec::ViewSource* source = &last_block->source;
  const std::size_t views = codec::detach_unreferenced(source);
  if (views == 0) free_block(source);
  return Rf_ScalarInteger(static_cast<int>(views));
}

// Takes the block away from under views that are still referenced. No product code does this; it is how a test gets at a
// detached view, which otherwise only code that hides its references from R's counting would see.
SEXP codec_detach_all() {
  if (last_block != nullptr) {
    codec::ViewSource* source = &last_block->source;
    codec::detach_all(source);
    free_block(source);
  }
  return R_NilValue;
}

SEXP codec_touch(SEXP x) {
  if (TYPEOF(x) == REALSXP) REAL(x);
  return R_NilValue;
}

SEXP codec_live_blocks() {
  codec::drain_released();
  return Rf_ScalarInteger(live_blocks);
}

SEXP codec_drop(SEXP list) {
  codec::drop_value(list);
  return R_NilValue;
}

}  // namespace

extern const R_CallMethodDef kCodecEntries[] = {
    {"codec_encode", reinterpret_cast<DL_FUNC>(&codec_encode), 2},
    {"codec_decode", reinterpret_cast<DL_FUNC>(&codec_decode), 3},
    {"codec_hash", reinterpret_cast<DL_FUNC>(&codec_hash), 1},
    {"codec_is_view", reinterpret_cast<DL_FUNC>(&codec_is_view), 1},
    {"codec_block_state", reinterpret_cast<DL_FUNC>(&codec_block_state), 0},
    {"codec_detach", reinterpret_cast<DL_FUNC>(&codec_detach), 0},
    {"codec_live_blocks", reinterpret_cast<DL_FUNC>(&codec_live_blocks), 0},
    {"codec_detach_all", reinterpret_cast<DL_FUNC>(&codec_detach_all), 0},
    {"codec_touch", reinterpret_cast<DL_FUNC>(&codec_touch), 1},
    {"codec_drop", reinterpret_cast<DL_FUNC>(&codec_drop), 1},
    {nullptr, nullptr, 0},
};
