// The codec beside R_Serialize / R_Unserialize (version 3, native binary format, into memory that is kept), on values as tasks
// have them. Each value is timed in both.
#include <Rembedded.h>
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "rbridge/codec/codec.hpp"

namespace {

using namespace setsuna;
using Clock = std::chrono::steady_clock;

void start_r() {
  static bool started = false;
  if (started) return;
  started = true;
  if (std::getenv("R_HOME") == nullptr) {
    char home[1024] = "";
    std::FILE* pipe = popen("R RHOME", "r");
    if (pipe != nullptr && std::fgets(home, sizeof home, pipe) != nullptr) home[std::strcspn(home, "\n")] = '\0';
    if (pipe != nullptr) pclose(pipe);
    setenv("R_HOME", home, 1);
  }
  char program[] = "codec_bench";
  char quiet[] = "--quiet";
  char vanilla[] = "--vanilla";
  char* arguments[] = {program, quiet, vanilla};
  Rf_initEmbeddedR(3, arguments);
  codec::initialize(R_getEmbeddingDllInfo());
}

SEXP value_of(const char* code) {
  start_r();
  SEXP x = R_ParseEvalString(code, R_GlobalEnv);
  R_PreserveObject(x);
  return x;
}

// --- R's own ---

struct Bytes {
  std::uint8_t* data;
  std::size_t size, cap, pos;
};

void out_bytes(R_outpstream_t stream, void* data, int size) {
  auto* to = static_cast<Bytes*>(reinterpret_cast<void*>(stream->data));
  const std::size_t need = to->size + static_cast<std::size_t>(size);
  if (need > to->cap) {
    to->cap = need * 2;
    to->data = static_cast<std::uint8_t*>(std::realloc(to->data, to->cap));
  }
  std::memcpy(to->data + to->size, data, static_cast<std::size_t>(size));
  to->size = need;
}

void out_char(R_outpstream_t stream, int c) {
  std::uint8_t byte = static_cast<std::uint8_t>(c);
  out_bytes(stream, &byte, 1);
}

void in_bytes(R_inpstream_t stream, void* data, int size) {
  auto* from = static_cast<Bytes*>(reinterpret_cast<void*>(stream->data));
  std::memcpy(data, from->data + from->pos, static_cast<std::size_t>(size));
  from->pos += static_cast<std::size_t>(size);
}

int in_char(R_inpstream_t stream) {
  std::uint8_t byte = 0;
  in_bytes(stream, &byte, 1);
  return byte;
}

void r_serialize(SEXP x, Bytes* to) {
  struct R_outpstream_st stream;
  to->size = 0;
  R_InitOutPStream(&stream, reinterpret_cast<R_pstream_data_t>(to), R_pstream_binary_format, 3, out_char, out_bytes,
                   nullptr, R_NilValue);
  R_Serialize(x, &stream);
}

SEXP r_unserialize(Bytes* from) {
  struct R_inpstream_st stream;
  from->pos = 0;
  R_InitInPStream(&stream, reinterpret_cast<R_pstream_data_t>(from), R_pstream_binary_format, in_char, in_bytes,
                  nullptr, R_NilValue);
  return R_Unserialize(&stream);
}

// --- the codec ---

// To where the bytes go in the end, as with R above: `block` stands for the slot or the arena block.
void encode_to(SEXP x, codec::EncodeBuffer* buf, Bytes* block) {
  codec::encode_reset(buf);
  codec::encode(x, buf);
  if (buf->total > block->cap) {
    block->cap = buf->total * 2;
    std::free(block->data);
    block->data = static_cast<std::uint8_t*>(std::aligned_alloc(64, (block->cap + 63) / 64 * 64));
  }
  block->size = buf->total;
  codec::write_encoded(buf, block->data);
}

SEXP decode_from(const Bytes& block, codec::ViewSource* source) {
  codec::Cursor cursor{block.data, block.data + block.size, block.data, source};
  return codec::decode(&cursor);
}

// What a value is as bytes, in either form.
struct Encoded {
  codec::EncodeBuffer buf{};
  Bytes block{};
  Bytes serialized{};
  SEXP x;

  explicit Encoded(const char* code) : x(value_of(code)) {
    encode_to(x, &buf, &block);
    r_serialize(x, &serialized);
  }
  Encoded(const Encoded&) = delete;
  Encoded& operator=(const Encoded&) = delete;
  ~Encoded() {
    R_gc();  // views of the block
    codec::encode_free(&buf);
    std::free(block.data);
    std::free(serialized.data);
    R_ReleaseObject(x);
  }
};

void bench_encode(benchmark::State& state, const char* code) {
  Encoded value(code);
  for (auto _ : state) encode_to(value.x, &value.buf, &value.block);
  state.counters["bytes"] = static_cast<double>(value.block.size);
}

void bench_r_serialize(benchmark::State& state, const char* code) {
  Encoded value(code);
  for (auto _ : state) r_serialize(value.x, &value.serialized);
  state.counters["bytes"] = static_cast<double>(value.serialized.size);
}

void bench_decode(benchmark::State& state, const char* code, bool views) {
  Encoded value(code);
  codec::ViewSource source{};
  source.base = value.block.data;
  source.len = value.block.size;
  for (auto _ : state) {
    benchmark::DoNotOptimize(decode_from(value.block, views ? &source : nullptr));
    if (views) codec::detach_unreferenced(&source);
  }
  state.counters["bytes"] = static_cast<double>(value.block.size);
}

void bench_r_unserialize(benchmark::State& state, const char* code) {
  Encoded value(code);
  for (auto _ : state) benchmark::DoNotOptimize(r_unserialize(&value.serialized));
  state.counters["bytes"] = static_cast<double>(value.serialized.size);
}

struct Value {
  const char* name;
  const char* code;
};

constexpr Value kValues[] = {
    {"double_1", "pi"},
    {"call_and_x", "list(quote(x + 1), x = 1)"},
    {"string_1", "'a string'"},
    {"list_10", "setNames(as.list(1:10), letters[1:10])"},
    {"closure", "local(function(x, y = 2) { z <- x + y; z * 2 }, globalenv())"},
    {"factory_closure", "(function(a) { force(a); function(x) x + a })(1)"},
    {"formula", "y ~ x + log(z)"},
    {"factor_100", "factor(rep(letters[1:4], 25))"},
    {"mtcars", "mtcars"},
    {"iris", "iris"},
    {"lm", "lm(mpg ~ wt + hp, mtcars)"},
    {"strings_10k", "as.character(1:10000)"},
    {"strings_repeated_10k", "rep(state.name, 200)"},
    {"strings_utf8_1k", "paste0('\\u00e9t\\u00e9', 1:1000)"},
    {"list_of_lists_1k", "lapply(1:1000, function(i) list(id = i, name = 'n'))"},
    {"double_1k", "runif(1e3)"},
    {"double_1M", "runif(1e6)"},
    {"double_10M", "runif(1e7)"},
    {"sequence_1M", "1:1000000"},
};

bool register_all() {
  for (const Value& value : kValues) {
    const char* code = value.code;
    const std::string name = value.name;
    benchmark::RegisterBenchmark(("encode/" + name).c_str(), [code](benchmark::State& s) { bench_encode(s, code); });
    benchmark::RegisterBenchmark(("r_serialize/" + name).c_str(),
                                 [code](benchmark::State& s) { bench_r_serialize(s, code); });
    benchmark::RegisterBenchmark(("decode/" + name).c_str(),
                                 [code](benchmark::State& s) { bench_decode(s, code, false); });
    benchmark::RegisterBenchmark(("r_unserialize/" + name).c_str(),
                                 [code](benchmark::State& s) { bench_r_unserialize(s, code); });
  }
  for (const Value& value : {kValues[16], kValues[17]}) {
    const char* code = value.code;
    benchmark::RegisterBenchmark((std::string("decode_view/") + value.name).c_str(),
                                 [code](benchmark::State& s) { bench_decode(s, code, true); });
  }
  return true;
}

const bool registered = register_all();

}  // namespace
