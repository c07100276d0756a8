// What R code cannot see of the codec: framing, layout of the bulk data, life of blocks, and that a decoder never reads
// outside its bytes (they end at an inaccessible page here). The values themselves are tested in the package.
#include "rbridge/codec/codec.hpp"

#include <Rembedded.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using namespace setsuna;

class Codec : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    static bool started = false;
    if (started) return;
    started = true;
    char program[] = "codec_test";
    char quiet[] = "--quiet";
    char vanilla[] = "--vanilla";
    char* arguments[] = {program, quiet, vanilla};
    Rf_initEmbeddedR(3, arguments);
    R_ParseEvalString("options(show.error.messages = FALSE)", R_GlobalEnv);
    codec::initialize(R_getEmbeddingDllInfo());
  }

  void TearDown() override {
    codec::encode_free(&buf_);
    for (SEXP x : kept_) R_ReleaseObject(x);
  }

  // The value of R code, protected until the end of the test.
  SEXP eval(const std::string& code) {
    SEXP x = run(code);
    R_PreserveObject(x);
    kept_.push_back(x);
    return x;
  }

  static SEXP run(const std::string& code) {
    struct Call {
      std::string code;
      SEXP value;
    } call{"{" + code + "}", R_NilValue};
    const auto evaluate = [](void* data) {
      auto* c = static_cast<Call*>(data);
      c->value = R_ParseEvalString(c->code.c_str(), R_GlobalEnv);
    };
    EXPECT_TRUE(R_ToplevelExec(evaluate, &call)) << code;
    return call.value;
  }

  std::vector<std::uint8_t> written() const {
    std::vector<std::uint8_t> bytes(buf_.total, 0xEE);
    codec::write_encoded(&buf_, bytes.data());
    return bytes;
  }

  std::vector<std::uint8_t> encoded(SEXP x) {
    codec::encode_reset(&buf_);
    codec::encode(x, &buf_);
    return written();
  }

  codec::EncodeBuffer buf_{};
  std::vector<SEXP> kept_;
};

struct DecodeCall {
  codec::Cursor* cursor;
  SEXP value;
};

// Whether the bytes decode without an R error.
bool decodes(codec::Cursor* cursor, SEXP* value = nullptr) {
  DecodeCall call{cursor, R_NilValue};
  const auto run = [](void* data) {
    auto* c = static_cast<DecodeCall*>(data);
    c->value = codec::decode(c->cursor);
    R_PreserveObject(c->value);
  };
  if (!R_ToplevelExec(run, &call)) return false;
  R_ReleaseObject(call.value);
  if (value != nullptr) *value = call.value;
  return true;
}

bool identical(SEXP a, SEXP b) { return R_compute_identical(a, b, 16) != 0; }

// Bytes that end where an inaccessible page begins.
class GuardedBytes {
 public:
  explicit GuardedBytes(const std::vector<std::uint8_t>& bytes, std::size_t size) : size_(size) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = (size / page + 2) * page;
    void* base = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(base, MAP_FAILED);
    base_ = static_cast<std::uint8_t*>(base);
    EXPECT_EQ(mprotect(base_ + mapped_ - page, page, PROT_NONE), 0);
    data_ = base_ + mapped_ - page - size;
    if (size != 0) std::memcpy(data_, bytes.data(), size);
  }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  ~GuardedBytes() { munmap(base_, mapped_); }
  codec::Cursor cursor() const { return {data_, data_ + size_, data_, nullptr}; }

 private:
  std::uint8_t* base_ = nullptr;
  std::uint8_t* data_ = nullptr;
  std::size_t mapped_ = 0;
  std::size_t size_;
};

TEST_F(Codec, ValuesAndRawBytesFollowEachOther) {
  SEXP first = eval("list(quote(x + 1), runif(5000), 'a')");
  SEXP second = eval("runif(3000)");
  codec::put_bytes(&buf_, "HEAD", 4);
  codec::encode(first, &buf_);
  codec::put_bytes(&buf_, "middle", 6);
  codec::encode(second, &buf_);
  codec::put_bytes(&buf_, "end", 3);
  const std::vector<std::uint8_t> bytes = written();

  codec::Cursor cursor{bytes.data() + 4, bytes.data() + bytes.size(), bytes.data(), nullptr};
  SEXP value = R_NilValue;
  ASSERT_TRUE(decodes(&cursor, &value));
  EXPECT_TRUE(identical(value, first));
  ASSERT_EQ(std::memcmp(cursor.p, "middle", 6), 0);
  cursor.p += 6;
  ASSERT_TRUE(decodes(&cursor, &value));
  EXPECT_TRUE(identical(value, second));
  EXPECT_EQ(std::memcmp(cursor.p, "end", 3), 0);
}

TEST_F(Codec, BulkDataIsAlignedAndPaddedWithZeros) {
  codec::encode(eval("list(runif(1000), 1:3 + 0L, as.raw(rep(1:5, 1000)), runif(513))"), &buf_);
  ASSERT_EQ(buf_.span_count, 3U);
  const std::vector<std::uint8_t> bytes = written();
  std::size_t pos = buf_.head_len;
  for (std::size_t i = 0; i < buf_.span_count; ++i) {
    const codec::BigSpan& span = buf_.spans[i];
    EXPECT_EQ(span.offset % codec::kBulkAlign, 0U);
    ASSERT_GE(span.offset, pos);
    for (; pos < span.offset; ++pos) EXPECT_EQ(bytes[pos], 0);
    EXPECT_EQ(std::memcmp(bytes.data() + span.offset, span.data, span.bytes), 0);
    pos = span.offset + span.bytes;
  }
  EXPECT_EQ(pos, buf_.total);
}

TEST_F(Codec, OffsetsFollowAHeadThatGrows) {
  SEXP x = eval("runif(1000)");
  codec::encode(x, &buf_);
  for (int i = 0; i < 200; ++i) codec::put_bytes(&buf_, "0123456", 7);
  const std::vector<std::uint8_t> bytes = written();
  codec::Cursor cursor{bytes.data(), bytes.data() + bytes.size(), bytes.data(), nullptr};
  SEXP value = R_NilValue;
  ASSERT_TRUE(decodes(&cursor, &value));
  EXPECT_TRUE(identical(value, x));
}

TEST_F(Codec, HashIsThatOfTheWrittenBytes) {
  for (const char* code :
       {"NULL", "list(1, 'a')", "runif(1e4)", "list(runif(600), 1:9, runif(1e5), as.raw(rep(1, 5001)))"}) {
    const std::vector<std::uint8_t> bytes = encoded(eval(code));
    EXPECT_EQ(codec::hash_encoded(&buf_), runtime::hash128(bytes.data(), bytes.size())) << code;
  }
}

TEST_F(Codec, MemoryIsKeptUpToALimit) {
  codec::encode(eval("mtcars"), &buf_);
  std::uint8_t* head = buf_.head;
  const std::size_t cap = buf_.head_cap;
  for (int i = 0; i < 100; ++i) encoded(kept_.back());
  EXPECT_EQ(buf_.head, head);
  EXPECT_EQ(buf_.head_cap, cap);
  encoded(eval("as.character(runif(2e5))"));
  EXPECT_GT(buf_.head_cap, codec::kKeepBytes);
  codec::encode_reset(&buf_);
  EXPECT_EQ(buf_.head_cap, 0U);
  EXPECT_EQ(buf_.total, 0U);
}

TEST_F(Codec, TellsWhetherAValueCarriesState) {
  const auto has_references = [&](const char* code) {
    encoded(eval(code));
    return buf_.has_references;
  };
  EXPECT_FALSE(has_references("list(1, 'a', quote(x), mtcars)"));
  EXPECT_FALSE(has_references(
      "list(eval(quote(function(x) x), globalenv()), stats::sd, globalenv(), asNamespace('stats'), sum)"));
  EXPECT_TRUE(has_references("list(1, new.env())"));
  EXPECT_TRUE(has_references("local(function(x) x)"));
  EXPECT_TRUE(has_references("stats:::C_Cdqrls$address"));
  EXPECT_TRUE(has_references("compiler::compile(as.call(list(as.name('f'), new.env())))"));
}

TEST_F(Codec, LogicalsThatAreNoneTravelButDamagedOnesDoNot) {
  SEXP odd = eval("c(TRUE, FALSE, NA)");
  LOGICAL(odd)[1] = 7;  // as only C code can
  const std::vector<std::uint8_t> bytes = encoded(odd);
  codec::Cursor cursor{bytes.data(), bytes.data() + bytes.size(), bytes.data(), nullptr};
  SEXP value = R_NilValue;
  ASSERT_TRUE(decodes(&cursor, &value));
  EXPECT_EQ(std::memcmp(LOGICAL_RO(value), LOGICAL_RO(odd), 3 * sizeof(int)), 0);

  for (const char* code : {"c(TRUE, FALSE, NA)", "rep(c(TRUE, FALSE, NA), 3000)"}) {
    std::vector<std::uint8_t> damaged = encoded(eval(code));
    damaged.back() ^= 0x40;  // of the NA at the end
    cursor = {damaged.data(), damaged.data() + damaged.size(), damaged.data(), nullptr};
    EXPECT_FALSE(decodes(&cursor)) << code;
  }
}

TEST_F(Codec, AttributesThatOnlyCCodeCanSetTravel) {
  SEXP x = eval("c(1, 2, 3)");
  SEXP dim = eval("c(5L, 5L)");
  SEXP cell = Rf_protect(Rf_cons(dim, R_NilValue));
  SET_TAG(cell, R_DimSymbol);
  SET_ATTRIB(x, cell);
  Rf_unprotect(1);
  const std::vector<std::uint8_t> bytes = encoded(x);
  codec::Cursor cursor{bytes.data(), bytes.data() + bytes.size(), bytes.data(), nullptr};
  SEXP value = R_NilValue;
  ASSERT_TRUE(decodes(&cursor, &value));
  EXPECT_TRUE(identical(CAR(ATTRIB(value)), dim));

  SEXP list = eval("as.pairlist(list(1, 2))");
  SET_ATTRIB(CDR(list), ATTRIB(x));  // on a later cell
  encoded(list);
  SEXP pair = Rf_protect(Rf_cons(dim, x));  // a dotted pair
  const std::vector<std::uint8_t> dotted = encoded(pair);
  cursor = {dotted.data(), dotted.data() + dotted.size(), dotted.data(), nullptr};
  ASSERT_TRUE(decodes(&cursor, &value));
  EXPECT_EQ(TYPEOF(value), LISTSXP);
  EXPECT_TRUE(identical(CAR(value), dim));
  EXPECT_EQ(TYPEOF(CDR(value)), REALSXP);
  Rf_unprotect(1);
}

TEST_F(Codec, NeverReadsBeyondItsBytes) {
  for (const char* code :
       {"NULL", "1.5", "'text'", "c('a', '\\u00e9', NA, strrep('x', 300))", "rep(letters, 2)", "1:100",
        "list(1L, 'a', list(TRUE))", "mtcars", "quote(f(x, y = 2))", "function(x, y = 2, ...) x + y",
        "local({ e <- environment(); e$self <- e; e })", "compiler::compile(quote(x + 1))",
        "list(compiler::compile(as.call(list(as.name('f'), new.env()))), new.env())", "runif(600)",
        "list(runif(600), as.raw(rep(1:4, 2000)))", "asNamespace('stats')",
        "structure(1:3 + 0L, names = letters[1:3])"}) {
    SEXP x = eval(code);
    const std::vector<std::uint8_t> bytes = encoded(x);
    for (std::size_t size = 0; size <= bytes.size(); size += size < 2000 ? 1 : 61) {
      GuardedBytes guarded(bytes, size);
      codec::Cursor cursor = guarded.cursor();
      EXPECT_EQ(decodes(&cursor), size == bytes.size()) << code << ", " << size << " of " << bytes.size() << " bytes";
      if (size < 2000 && size + 61 > 2000 && bytes.size() > 2061) size = 2000;
    }
    GuardedBytes whole(bytes, bytes.size());
    codec::Cursor cursor = whole.cursor();
    EXPECT_TRUE(decodes(&cursor)) << code;
  }
}

// --- views ---

class Views : public Codec {
 protected:
  void SetUp() override { released_.clear(); }

  static void on_release(codec::ViewSource* source) { released_.push_back(source); }

  // x in a block of its own, `shift` bytes off the alignment.
  codec::ViewSource* block(SEXP x, std::size_t shift = 0) {
    const std::vector<std::uint8_t> bytes = encoded(x);
    auto* memory = static_cast<std::uint8_t*>(std::aligned_alloc(64, (bytes.size() + shift + 63) / 64 * 64));
    std::memcpy(memory + shift, bytes.data(), bytes.size());
    memory_.push_back(memory);
    sources_.push_back(new codec::ViewSource{});
    codec::ViewSource* source = sources_.back();
    source->base = memory + shift;
    source->len = bytes.size();
    source->on_release = on_release;
    return source;
  }

  // Decoded and kept in R by the variable `name`.
  void decode_to(const char* name, codec::ViewSource* source) {
    codec::Cursor cursor{source->base, source->base + source->len, source->base, source};
    SEXP value = Rf_protect(codec::decode(&cursor));
    Rf_defineVar(Rf_install(name), value, R_GlobalEnv);
    Rf_unprotect(1);
  }

  void TearDown() override {
    run("rm(list = ls(globalenv()), envir = globalenv())");
    R_gc();
    codec::drain_released();
    for (codec::ViewSource* source : sources_) {
      EXPECT_EQ(source->live_views, 0U);
      delete source;
    }
    for (std::uint8_t* memory : memory_) std::free(memory);
    Codec::TearDown();
  }

  static std::vector<codec::ViewSource*> released_;
  std::vector<codec::ViewSource*> sources_;
  std::vector<std::uint8_t*> memory_;
};
std::vector<codec::ViewSource*> Views::released_;

TEST_F(Views, AreMadeOfLargeAlignedVectorsOnly) {
  codec::ViewSource* source = block(eval("list(runif(1e4), runif(1000), letters)"));
  decode_to("x", source);
  EXPECT_EQ(source->live_views, 1U);
  codec::ViewSource* shifted = block(eval("list(runif(1e4))"), 4);
  decode_to("y", shifted);
  EXPECT_EQ(shifted->live_views, 0U);
  EXPECT_EQ(codec::release_on_last_view(shifted), 0U);
}

TEST_F(Views, ReleaseTheBlockOnceAfterTheLastIsGone) {
  codec::ViewSource* source = block(eval("list(runif(1e4), runif(1e4))"));
  decode_to("x", source);
  EXPECT_EQ(codec::release_on_last_view(source), 2U);
  run("y <- x[[2L]]; rm(x)");
  R_gc();
  codec::drain_released();
  EXPECT_TRUE(released_.empty());
  run("rm(y)");
  R_gc();
  EXPECT_TRUE(released_.empty());  // the collector only queues it
  codec::drain_released();
  ASSERT_EQ(released_.size(), 1U);
  EXPECT_EQ(released_[0], source);
  codec::drain_released();
  EXPECT_EQ(released_.size(), 1U);
}

TEST_F(Views, ABlockThatWasNotHandedOverIsNotReleased) {
  codec::ViewSource* source = block(eval("runif(1e4)"));
  decode_to("x", source);
  run("rm(x)");
  R_gc();
  codec::drain_released();
  EXPECT_TRUE(released_.empty());
  EXPECT_EQ(codec::release_on_last_view(source), 0U);
}

TEST_F(Views, TakingBackABlockThatTheCollectorQueuedDropsItFromTheQueue) {
  codec::ViewSource* first = block(eval("runif(1e4)"));
  codec::ViewSource* second = block(kept_.back());
  decode_to("x", first);
  decode_to("y", second);
  EXPECT_EQ(codec::detach_unreferenced(first), 1U);
  EXPECT_EQ(codec::detach_unreferenced(second), 1U);
  run("rm(x, y)");
  R_gc();
  EXPECT_EQ(codec::detach_unreferenced(first), 0U);
  codec::drain_released();
  EXPECT_EQ(released_, std::vector<codec::ViewSource*>{second});
}

TEST_F(Views, SeveralDecodesShareABlock) {
  codec::encode_reset(&buf_);
  codec::ViewSource* source = block(eval("list(runif(1e4))"));
  decode_to("x", source);
  decode_to("y", source);
  EXPECT_EQ(source->live_views, 2U);
  run("rm(x)");
  R_gc();
  EXPECT_EQ(source->live_views, 1U);
  run("stopifnot(length(unique(y[[1L]])) == 1e4)");
  EXPECT_EQ(codec::release_on_last_view(source), 1U);
}

TEST_F(Views, AWritablePointerMarksTheBlock) {
  codec::ViewSource* source = block(eval("runif(1e4)"));
  decode_to("x", source);
  SEXP x = Rf_findVar(Rf_install("x"), R_GlobalEnv);
  REAL_RO(x);
  EXPECT_FALSE(source->writable_given);
  REAL(x);
  EXPECT_TRUE(source->writable_given);
}

TEST_F(Views, ManyInOneBlockCostOneFinalizer) {
  codec::ViewSource* source = block(eval("lapply(1:500, function(i) runif(2500))"));
  decode_to("x", source);
  EXPECT_EQ(source->live_views, 500U);
  run("for (i in 1:499) x[[i]] <- 0");
  EXPECT_EQ(codec::detach_unreferenced(source), 1U);
}

}  // namespace
