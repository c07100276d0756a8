// The layout of WebSocket's frames, and their masks.
#include "net/websocket_frame.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace setsuna::net {
namespace {

constexpr WebSocketFrame::Mask kMask = {std::byte{0x37}, std::byte{0xfa}, std::byte{0x21}, std::byte{0x3d}};

TEST(WebSocketFrame, HeadersOfAllLengths) {
  for (const bool masked : {false, true}) {
    for (const std::uint64_t size : {0ULL, 1ULL, 125ULL, 126ULL, 65'535ULL, 65'536ULL, 1ULL << 40}) {
      std::vector<std::byte> out;
      WebSocketFrame::append_header(out, size, masked ? std::optional(kMask) : std::nullopt);
      EXPECT_EQ(out.size(), (size < 126 ? 2U : size < 65'536 ? 4U : 10U) + (masked ? 4U : 0U));
      for (std::size_t part = 0; part < out.size(); ++part) {
        EXPECT_FALSE(WebSocketFrame::parse(std::span(out).first(part))) << part;
      }
      const auto frame = WebSocketFrame::parse(out);
      ASSERT_TRUE(frame);
      EXPECT_EQ(frame->payload_bytes, size);
      EXPECT_EQ(frame->header_bytes, out.size());
      EXPECT_EQ(frame->mask, masked ? std::optional(kMask) : std::nullopt);
      EXPECT_TRUE(frame->final && frame->shortest && frame->reserved == 0 && frame->opcode == WebSocketFrame::kBinary);
    }
  }
}

// The example of RFC 6455, section 5.7.
TEST(WebSocketFrame, TheExampleOfTheStandard) {
  const auto wire = std::to_array<std::uint8_t>({0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58});
  const auto frame = WebSocketFrame::parse(std::as_bytes(std::span(wire)));
  ASSERT_TRUE(frame && frame->mask);
  EXPECT_EQ(frame->opcode, 1);
  std::array<char, 5> text;
  WebSocketFrame::apply(*frame->mask, 0, std::as_bytes(std::span(wire)).subspan(frame->header_bytes),
                        reinterpret_cast<std::byte*>(text.data()));
  EXPECT_EQ(std::string_view(text.data(), text.size()), "Hello");
}

TEST(WebSocketFrame, LengthsLongerThanNeeded) {
  const auto two = std::to_array<std::uint8_t>({0x02, 126, 0, 125});
  const auto eight = std::to_array<std::uint8_t>({0xf2, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff});
  const auto short_frame = WebSocketFrame::parse(std::as_bytes(std::span(two)));
  ASSERT_TRUE(short_frame);
  EXPECT_FALSE(short_frame->shortest);
  EXPECT_FALSE(short_frame->final);
  const auto long_frame = WebSocketFrame::parse(std::as_bytes(std::span(eight)));
  ASSERT_TRUE(long_frame);
  EXPECT_FALSE(long_frame->shortest);
  EXPECT_EQ(long_frame->reserved, 7);
}

// Against the definition, byte by byte; from one place to another and in place.
TEST(WebSocketFrame, MasksAtAllOffsetsAndLengths) {
  std::array<std::byte, 300> from;
  for (std::size_t i = 0; i < from.size(); ++i) {
    from[i] = static_cast<std::byte>(i * 7);
  }
  for (std::size_t offset = 0; offset < 9; ++offset) {
    for (std::size_t size = 0; size < from.size(); ++size) {
      std::vector<std::byte> expected(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(size));
      std::vector<std::byte> in_place = expected;
      std::vector<std::byte> out(size);
      for (std::size_t i = 0; i < size; ++i) {
        expected[i] ^= kMask[(offset + i) % 4];
      }
      WebSocketFrame::apply(kMask, offset, std::span(from).first(size), out.data());
      WebSocketFrame::apply(kMask, offset, in_place, in_place.data());
      ASSERT_TRUE(out == expected && in_place == expected) << offset << " " << size;
    }
  }
}

}  // namespace
}  // namespace setsuna::net
