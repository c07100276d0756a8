// Frames: what SendQueue cuts, MessageReader puts together, whatever the pieces; and what it makes of bytes that are wrong.
#include "net/message_reader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "net/send_queue.hpp"
#include "tests/net/frame_bytes.hpp"

namespace setsuna::net {
namespace {

using testing::HasSubstr;

struct Heard {
  MessageHeader header;
  std::string head;
  std::string body;

  bool operator==(const Heard& other) const {
    return header.type == other.header.type && header.lane == other.header.lane && header.id == other.header.id &&
           head == other.head && body == other.body;
  }
};

std::string text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::span<const std::byte> span(const std::string& text) { return std::as_bytes(std::span(text)); }

struct Listening : MessageReader::Events {
  MessageReader reader{*this};
  std::vector<Heard> heard;
  bool give_memory = false;
  std::string memory;
  std::string reject_with;
  int begins = 0;

  std::byte* on_begin(const MessageHeader& header, std::span<const std::byte>, std::string* reject) override {
    ++begins;
    *reject = reject_with;
    if (!give_memory) {
      return nullptr;
    }
    memory.assign(header.body_bytes, '?');
    return reinterpret_cast<std::byte*>(memory.data());
  }
  void on_message(const MessageHeader& header, std::span<const std::byte> head,
                  std::span<const std::byte> body) override {
    heard.push_back({header, text(head), text(body)});
  }

  bool feed(const std::string& bytes) { return reader.feed(span(bytes)); }
  std::string why() const { return reader.error(); }
};

std::string wire_of(SendQueue& queue) {
  std::string out;
  for (SendBatch batch; queue.fill(batch);) {
    const auto pieces = batch.gather();
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < batch.piece_count; ++i) {
      out.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
      bytes += pieces[i].iov_len;
    }
    EXPECT_EQ(bytes, batch.total_bytes);
  }
  EXPECT_EQ(queue.bytes(), 0u);
  return out;
}

FrameHeader data(std::uint64_t body_bytes, std::uint8_t flags) {
  FrameHeader header;
  header.type = 3;
  header.id = 5;
  header.body_bytes = body_bytes;
  header.flags = static_cast<std::uint8_t>(FrameHeader::kData | flags);
  return header;
}

struct Conversation {
  std::vector<Heard> said;
  std::vector<std::string> bodies;
  std::string wire;
};

Conversation conversation(std::mt19937& random, int messages, std::size_t largest, bool unchecked = false) {
  Conversation out;
  SendQueue queue;
  if (unchecked) {
    queue.leave_unchecked();
  }
  out.bodies.reserve(static_cast<std::size_t>(messages));
  std::vector<Heard> control, on_data;
  for (int i = 0; i < messages; ++i) {
    const bool is_control = random() % 3 == 0;
    const std::size_t size = random() % (is_control ? kMaxControlBytes + 1 : random() % 2 == 0 ? 100 : largest);
    std::string& body = out.bodies.emplace_back(size, '\0');
    for (char& c : body) {
      c = static_cast<char>(random());
    }
    const std::string head(random() % (kMaxHeadBytes + 1), static_cast<char>('a' + i % 26));
    const auto id = static_cast<std::uint64_t>(i);
    const Lane lane = is_control ? Lane::kControl : Lane::kData;
    queue.push(7, lane, id, span(head), span(body), is_control ? 0 : id + 1);
    (is_control ? control : on_data).push_back({{7, lane, id, size}, head, body});
  }
  out.said = control;
  out.said.insert(out.said.end(), on_data.begin(), on_data.end());
  out.wire = wire_of(queue);
  return out;
}

std::vector<Heard> sorted(std::vector<Heard> heard) {
  std::stable_partition(heard.begin(), heard.end(), [](const Heard& h) { return h.header.lane == Lane::kControl; });
  return heard;
}

TEST(MessageReader, AnyPieces) {
  std::mt19937 random(1);
  int placed = 0;
  for (int round = 0; round < 200; ++round) {
    const bool unchecked = round % 3 == 1;
    const Conversation said = conversation(random, 12, round % 10 == 0 ? 600'000 : 3000, unchecked);
    Listening listening;
    if (unchecked) {
      listening.reader.take_unchecked();
    }
    listening.give_memory = round % 2 == 0;
    const std::size_t most = std::size_t{1} << (random() % 18);
    for (std::size_t at = 0; at < said.wire.size();) {
      const std::size_t part = std::min<std::size_t>(said.wire.size() - at, 1 + random() % most);
      const std::span<std::byte> room = listening.reader.room();
      if (round % 7 < 4 || room.empty()) {
        ASSERT_TRUE(listening.feed(said.wire.substr(at, part))) << listening.why();
        at += part;
      } else {
        const std::size_t fits = std::min(part, room.size());
        std::memcpy(room.data(), said.wire.data() + at, fits);
        ASSERT_TRUE(listening.reader.placed(fits)) << listening.why();
        at += fits;
        ++placed;
      }
    }
    ASSERT_TRUE(sorted(listening.heard) == said.said) << "round " << round;
    EXPECT_EQ(listening.reader.torn(), nullptr);
  }
  EXPECT_GT(placed, 1000);
}

// What was put where it belongs is checked as what is fed.
TEST(MessageReader, DamageInWhatIsPlacedIsNoticed) {
  const std::string wire = frame_bytes(data(10, FrameHeader::kWhole), "head", "abcdefghij");
  Listening listening;
  listening.give_memory = true;
  EXPECT_TRUE(listening.reader.room().empty());
  EXPECT_TRUE(listening.feed(wire.substr(0, wire.size() - 4)));
  ASSERT_EQ(listening.reader.room().size(), 4u);
  std::memcpy(listening.reader.room().data(), "ghix", 4);
  EXPECT_FALSE(listening.reader.placed(4));
  EXPECT_THAT(listening.why(), HasSubstr("contents of a frame are damaged"));
  EXPECT_TRUE(listening.heard.empty());
  EXPECT_TRUE(listening.reader.room().empty());
}

// One byte differs: what was said before it arrives, nothing that was not said does, and the reader stops.
TEST(MessageReader, AnyDamageIsNoticed) {
  std::mt19937 random(2);
  for (int round = 0; round < 3000; ++round) {
    const Conversation said = conversation(random, 4, 500);
    std::string wire = said.wire;
    wire[random() % wire.size()] ^= static_cast<char>(1 + random() % 255);
    Listening listening;
    listening.give_memory = round % 2 == 0;
    const bool good = listening.feed(wire);
    for (const Heard& heard : listening.heard) {
      ASSERT_NE(std::find(said.said.begin(), said.said.end(), heard), said.said.end()) << "round " << round;
    }
    ASSERT_LT(listening.heard.size(), said.said.size());
    // A damaged length may leave it waiting for more; that ends with the connection.
    ASSERT_FALSE(good && listening.heard.size() == said.said.size());
    ASSERT_EQ(good, listening.why().empty());
  }
}

TEST(MessageReader, RandomBytes) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string noise(random() % 300 + 4, '\0');
    for (char& c : noise) {
      c = static_cast<char>(random());
    }
    if (round % 2 == 0) {
      std::memcpy(noise.data(), &kFrameMagic, sizeof kFrameMagic);
    }
    Listening listening;
    EXPECT_FALSE(listening.feed(noise) && noise.size() > sizeof(FrameHeader) + kMaxHeadBytes);
    EXPECT_TRUE(listening.heard.empty());
  }
}

TEST(MessageReader, NamesWhatIsWrong) {
  {
    Listening listening;
    EXPECT_FALSE(listening.feed("GET /"));
    EXPECT_THAT(listening.why(), HasSubstr("not setsuna's protocol (it begins with 'GET /')"));
    EXPECT_FALSE(listening.feed("more"));
  }
  {
    Listening listening;
    EXPECT_TRUE(listening.feed(std::string("STSN\x07", 5)));  // the version is not there yet
    EXPECT_FALSE(listening.feed(std::string("\x01", 1)));
    EXPECT_THAT(listening.why(), HasSubstr("version 263 of the protocol and this side version 2"));
  }
  const auto why = [](const std::string& wire) {
    Listening listening;
    EXPECT_FALSE(listening.feed(wire));
    EXPECT_TRUE(listening.heard.empty());
    return listening.why();
  };
  FrameHeader control;
  control.flags = FrameHeader::kWhole;
  control.body_bytes = kMaxControlBytes + 1;
  EXPECT_THAT(why(frame_bytes(control, "", std::string(kMaxControlBytes + 1, 'x'))), HasSubstr("longer than the 4096"));
  EXPECT_THAT(why(frame_bytes(data(kMaxBodyBytes + 1, FrameHeader::kFirst), "", "x")), HasSubstr("longer than the"));
  EXPECT_THAT(why(frame_bytes(data(1 << 20, FrameHeader::kFirst), "", std::string(kMaxChunkBytes + 1, 'x'))),
              HasSubstr("a chunk of"));
  EXPECT_THAT(why(frame_bytes(data(10, FrameHeader::kWhole), "", "x")), HasSubstr("contradicts itself"));
  EXPECT_THAT(why(frame_bytes(data(10, FrameHeader::kFirst), "", "")), HasSubstr("contradicts itself"));
  EXPECT_THAT(why(frame_bytes(data(10, 0), "head", "x")), HasSubstr("contradicts itself"));
  EXPECT_THAT(why(frame_bytes(data(10, 16), "", "x")), HasSubstr("unknown flags"));
  const FrameHeader unchecked = data(1, FrameHeader::kWhole | FrameHeader::kUnchecked);
  EXPECT_THAT(why(frame_bytes(unchecked, "", "x")), HasSubstr("without a checksum"));
  EXPECT_THAT(why(frame_bytes(data(10, 0), "", "x")), HasSubstr("belongs to no message"));
  EXPECT_THAT(why(frame_bytes(data(10, FrameHeader::kLast), "", "x")), HasSubstr("belongs to no message"));
  EXPECT_THAT(why(frame_bytes(data(10, FrameHeader::kFirst), "", std::string(10, 'x'))), HasSubstr("do not add up"));
  EXPECT_THAT(
      why(frame_bytes(data(10, FrameHeader::kFirst), "", "x") + frame_bytes(data(10, FrameHeader::kFirst), "", "x")),
      HasSubstr("before the one before it is whole"));
  EXPECT_THAT(
      why(frame_bytes(data(10, FrameHeader::kFirst), "", "x") + frame_bytes(data(10, FrameHeader::kLast), "", "x")),
      HasSubstr("do not add up"));
  EXPECT_THAT(
      why(frame_bytes(data(10, FrameHeader::kFirst), "", "x") + frame_bytes(data(11, FrameHeader::kLast), "", "x")),
      HasSubstr("belongs to no message"));
  std::string damaged = frame_bytes(data(3, FrameHeader::kWhole), "", "abc");
  damaged.back() = 'x';
  EXPECT_THAT(why(damaged), HasSubstr("contents of a frame are damaged"));
  damaged = frame_bytes(data(3, FrameHeader::kWhole), "head", "abc");
  damaged[sizeof(FrameHeader)] = 'x';
  EXPECT_THAT(why(damaged), HasSubstr("start of a frame is damaged"));
}

TEST(MessageReader, TakesUncheckedDataWhereThatWasAgreed) {
  const auto heard = [](const std::string& wire) {
    Listening listening;
    listening.reader.take_unchecked();
    const bool good = listening.feed(wire);
    return std::pair(good, listening.why());
  };
  const FrameHeader unchecked = data(3, FrameHeader::kWhole | FrameHeader::kUnchecked);
  std::string wire = frame_bytes(unchecked, "head", "abc");
  EXPECT_TRUE(heard(wire).first);
  wire.back() = 'x';  // another's matter
  EXPECT_TRUE(heard(wire).first);
  EXPECT_TRUE(heard(frame_bytes(data(3, FrameHeader::kWhole), "", "abc")).first);
  wire[sizeof(FrameHeader)] = 'x';
  EXPECT_THAT(heard(wire).second, HasSubstr("start of a frame is damaged"));
  std::string contradiction = frame_bytes(unchecked, "", "abc");
  contradiction[offsetof(FrameHeader, checksum)] = 1;
  EXPECT_THAT(heard(contradiction).second, HasSubstr("contradicts itself"));
  FrameHeader control;
  control.flags = FrameHeader::kWhole | FrameHeader::kUnchecked;
  EXPECT_THAT(heard(frame_bytes(control, "", "")).second, HasSubstr("contradicts itself"));
}

TEST(MessageReader, RestrictedToTheHandshake) {
  FrameHeader hello;
  hello.type = static_cast<std::uint16_t>(NetMessage::kHello);
  hello.flags = FrameHeader::kWhole;
  hello.body_bytes = 100;
  const auto why = [](const std::string& wire) {
    Listening listening;
    listening.reader.restrict_to(100);
    const bool good = listening.feed(wire);
    EXPECT_EQ(good, listening.why().empty());
    EXPECT_EQ(listening.begins, 0);
    return listening.why();
  };
  EXPECT_EQ(why(frame_bytes(hello, "", std::string(100, 'x'))), "");
  hello.body_bytes = 101;
  EXPECT_THAT(why(frame_bytes(hello, "", std::string(101, 'x'))), HasSubstr("handshake is longer"));
  FrameHeader control;
  control.type = 1;
  control.flags = FrameHeader::kWhole;
  EXPECT_THAT(why(frame_bytes(control, "", "")), HasSubstr("before it has proved"));
  EXPECT_THAT(why(frame_bytes(data(1, FrameHeader::kWhole), "", "x")), HasSubstr("before it has proved"));
}

TEST(MessageReader, TornMessagesAreThoseWithLentMemory) {
  Listening listening;
  EXPECT_TRUE(listening.feed(frame_bytes(data(10, FrameHeader::kFirst), "", "abc")));
  EXPECT_EQ(listening.reader.torn(), nullptr);
  Listening lent;
  lent.give_memory = true;
  EXPECT_TRUE(lent.feed(frame_bytes(data(10, FrameHeader::kFirst), "", "abc")));
  ASSERT_NE(lent.reader.torn(), nullptr);
  EXPECT_EQ(lent.reader.torn()->id, 5u);
  EXPECT_TRUE(lent.feed(frame_bytes(data(10, FrameHeader::kLast), "", "defghij")));
  EXPECT_EQ(lent.reader.torn(), nullptr);
  EXPECT_EQ(lent.memory, "abcdefghij");
}

TEST(SendQueue, ControlGoesBetweenChunks) {
  SendQueue queue;
  const std::string body(kMaxChunkBytes * 3, 'x');
  queue.push(1, Lane::kData, 1, {}, span(body), 9);
  SendBatch batch;
  ASSERT_TRUE(queue.fill(batch));
  EXPECT_TRUE(batch.tickets.empty());
  queue.push(2, Lane::kControl, 2, {}, {}, 0);
  ASSERT_TRUE(queue.fill(batch));
  FrameHeader first;
  std::memcpy(&first, batch.bytes.data(), sizeof first);
  EXPECT_EQ(first.type, 2u);
  EXPECT_EQ(batch.piece_count, 2u);
  EXPECT_EQ(batch.pieces[1].body, reinterpret_cast<const std::byte*>(body.data()) + kMaxChunkBytes);
  ASSERT_TRUE(queue.fill(batch));
  EXPECT_EQ(batch.tickets, std::vector<std::uint64_t>{9});
  EXPECT_FALSE(queue.fill(batch));
}

TEST(SendQueue, SmallMessagesGoTogetherAndTheLastWordIsLast) {
  SendQueue queue;
  const std::string body = "body";
  for (std::uint64_t i = 0; i < 50; ++i) {
    queue.push(1, Lane::kData, i, span("head"), span(body), i + 1);
  }
  queue.push_last(NetMessage::kBye, "done");
  SendBatch batch;
  ASSERT_TRUE(queue.fill(batch));
  EXPECT_EQ(batch.tickets.size(), 50u);
  EXPECT_EQ(batch.piece_count, 1u);
  EXPECT_TRUE(queue.empty());
  Listening listening;
  ASSERT_TRUE(listening.reader.feed(batch.bytes));
  ASSERT_EQ(listening.heard.size(), 51u);
  EXPECT_EQ(listening.heard.back().header.type, static_cast<std::uint16_t>(NetMessage::kBye));
  EXPECT_EQ(listening.heard.back().body, "done");
}

TEST(SendQueue, DroppedMessagesGiveTheirTicketsBack) {
  SendQueue queue;
  const std::string body(kMaxChunkBytes * 3, 'x');
  queue.push(1, Lane::kData, 1, {}, span(body), 5);
  queue.push(1, Lane::kData, 2, {}, span("copied"), 0);
  queue.push(1, Lane::kData, 3, {}, span(body), 6);
  SendBatch batch;
  ASSERT_TRUE(queue.fill(batch));
  EXPECT_EQ(queue.drop(), (std::vector<std::uint64_t>{5, 6}));
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.bytes(), 0u);
}

}  // namespace
}  // namespace setsuna::net
