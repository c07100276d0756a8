#include <cstdlib>

#include "rbridge/codec/ref_table.hpp"
#include "rbridge/codec/writer.hpp"
#include "runtime/assert.hpp"

namespace setsuna::codec {

namespace {

constexpr std::size_t align_bulk(std::size_t pos) { return (pos + kBulkAlign - 1) & ~(kBulkAlign - 1); }

void grow_spans(EncodeBuffer* buf) {
  const std::size_t cap = buf->span_cap == 0 ? 8 : buf->span_cap * 2;
  void* spans = std::realloc(buf->spans, cap * sizeof(BigSpan));
  if (spans == nullptr) Rf_error("not enough memory to encode %zu large vectors", buf->span_count);
  buf->spans = static_cast<BigSpan*>(spans);
  buf->span_cap = cap;
}

}  // namespace

void grow_head(EncodeBuffer* buf, std::size_t more) {
  const std::size_t need = buf->head_len + more;
  std::size_t cap = buf->head_cap == 0 ? 4096 : buf->head_cap * 2;
  if (cap < need) cap = need;
  void* head = std::realloc(buf->head, cap);
  if (head == nullptr)
    Rf_error("not enough memory to encode a value of %.0f MB", static_cast<double>(need) / 1048576.0);
  buf->head = static_cast<std::uint8_t*>(head);
  buf->head_cap = cap;
}

void encode_reset(EncodeBuffer* buf) noexcept {
  if (buf->head_cap > kKeepBytes) {
    std::free(buf->head);
    buf->head = nullptr;
    buf->head_cap = 0;
  }
  if (buf->span_cap * sizeof(BigSpan) > kKeepBytes) {
    std::free(buf->spans);
    buf->spans = nullptr;
    buf->span_cap = 0;
  }
  buf->head_len = buf->span_count = buf->total = buf->bulk_bytes = buf->bulk_start = 0;
  refs_clear(buf);
  buf->has_references = false;
}

void encode_free(EncodeBuffer* buf) noexcept {
  std::free(buf->head);
  std::free(buf->spans);
  std::free(buf->refs);
  *buf = EncodeBuffer{};
}

void put_bytes(EncodeBuffer* buf, const void* data, std::size_t size) {
  put_data(buf, data, size);
  settle_bulk(buf);
}

void put_bulk(EncodeBuffer* buf, const void* data, std::size_t size) {
  if (buf->span_count == buf->span_cap) grow_spans(buf);
  const std::size_t pos = buf->head_len;
  put(buf, std::uint64_t{0});
  // offset is relative to the start of the bulk part until settle_bulk() knows where that is
  const std::size_t relative = align_bulk(buf->bulk_bytes);
  buf->spans[buf->span_count++] = BigSpan{data, size, buf->bulk_start + relative, pos};
  buf->bulk_bytes = relative + size;
}

void settle_bulk(EncodeBuffer* buf) noexcept {
  if (buf->span_count == 0) {
    buf->total = buf->head_len;
    return;
  }
  const std::size_t start = align_bulk(buf->head_len);
  for (std::size_t i = 0; i < buf->span_count; ++i) {
    BigSpan& span = buf->spans[i];
    span.offset = span.offset - buf->bulk_start + start;
    patch(buf, span.head_pos, static_cast<std::uint64_t>(span.offset));
  }
  buf->bulk_start = start;
  buf->total = start + buf->bulk_bytes;
}

void write_encoded(const EncodeBuffer* buf, std::uint8_t* dst) noexcept {
  std::size_t pos = buf->head_len;
  if (pos != 0) std::memcpy(dst, buf->head, pos);
  for (std::size_t i = 0; i < buf->span_count; ++i) {
    const BigSpan& span = buf->spans[i];
    SETSUNA_ASSERT(span.offset >= pos && span.offset % kBulkAlign == 0);
    std::memset(dst + pos, 0, span.offset - pos);
    // One plain memcpy: glibc turns to non-temporal stores by itself once the size exceeds the cache.
    std::memcpy(dst + span.offset, span.data, span.bytes);
    pos = span.offset + span.bytes;
  }
  SETSUNA_ASSERT(pos == buf->total);
}

Hash128 hash_encoded(const EncodeBuffer* buf) noexcept {
  if (buf->span_count == 0) return runtime::hash128(buf->head, buf->head_len);
  static constexpr std::uint8_t kPadding[kBulkAlign] = {};
  runtime::Hasher128 hasher;
  hasher.update(buf->head, buf->head_len);
  std::size_t pos = buf->head_len;
  for (std::size_t i = 0; i < buf->span_count; ++i) {
    const BigSpan& span = buf->spans[i];
    hasher.update(kPadding, span.offset - pos).update(span.data, span.bytes);
    pos = span.offset + span.bytes;
  }
  return hasher.digest();
}

}  // namespace setsuna::codec
