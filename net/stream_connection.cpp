#include "net/stream_connection.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "net/tls_library.hpp"
#include "runtime/assert.hpp"
#include "runtime/clock.hpp"

namespace setsuna::net {
namespace {

using runtime::kNanosPerSecond;
using runtime::monotonic_ns;

constexpr std::uint64_t kStalledCloseNs = 10 * kNanosPerSecond;  // without a byte that goes out
constexpr std::uint64_t kLongestCloseNs = 60 * kNanosPerSecond;  // in all
constexpr std::uint64_t kLingerNs = 3 * kNanosPerSecond;
constexpr std::uint64_t kLastWordsNs = 1 * kNanosPerSecond;  // for what the other side said before it hung up
constexpr std::uint64_t kLargeBatch = 64 * 1024;  // the kernel's buffers are soon full of these if nobody takes them
constexpr std::size_t kIdleCapacity = 4096;       // of a batch, kept

std::string text_of(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte byte : bytes.first(std::min<std::size_t>(bytes.size(), 1000))) {
    const char c = static_cast<char>(byte);
    out += static_cast<unsigned char>(c) >= ' ' ? c : ' ';
  }
  return out.empty() ? "no reason given" : out;
}

}  // namespace

StreamCore::StreamCore(StreamSetup setup, StreamConnection& facade)
    : setup_(std::move(setup)),
      facade_(&facade),
      handshake_(setup_.role, *setup_.config, opened_tls_library()),
      reader_(*this) {
  for (Flight& flight : flights_) {
    flight.core = this;
  }
  reader_.restrict_to(Handshake::kMaxMessageBytes);
}

void StreamCore::start() {
  receiving_ = true;
  setup_.reactor->recv(setup_.fd, Handler::to<&StreamCore::on_received>(this));
  deadline_timer_ = setup_.reactor->timer(setup_.deadline_ns, Handler::to<&StreamCore::on_deadline>(this));
  layers_moved();
}

const std::string& StreamCore::path() const noexcept {
  static const std::string none;
  return setup_.websocket != nullptr ? setup_.websocket->path() : none;
}

// The kernel may still hold the addresses of what is being sent. After shutdown() it does not read there any more: a send
// that was waiting for room fails before it copies anything, and no other thread works on it.
void StreamCore::detach() {
  const Guard guard(*this);
  facade_ = nullptr;
  sink_ = nullptr;
  reader_.stop();
  if (alive()) {
    ::shutdown(setup_.fd, SHUT_RDWR);
    end({});
  }
  queue_.drop();
}

void StreamCore::free_if_unused() {
  if (guards_ == 0 && facade_ == nullptr && state_ == State::kEnded) {
    delete this;
  }
}

// ---- receiving ----

void StreamCore::on_received(const Completion& completion) {
  const Guard guard(*this);
  if (completion.result > 0) {
    heard();
    if (state_ == State::kShaking || state_ == State::kOpen) {
      receive(completion.data);
    }
  }
  if (!completion.more) {
    receiving_ = false;
    on_stream_end(completion.result);
  }
}

void StreamCore::receive(std::span<const std::byte> bytes) {
  LayerStack& layers = setup_.layers;
  const bool good = layers.empty() ? reader_.feed(bytes) : layers.receive(bytes, *this);
  if (!good && layers.error().empty()) {
    return on_reader_stopped();
  }
  if (!layers.empty() && (state_ == State::kShaking || state_ == State::kOpen)) {
    layers_moved();
  }
}

// They may have failed, have something to say, or be open now.
void StreamCore::layers_moved() {
  LayerStack& layers = setup_.layers;
  layers.advance();
  if (!layers.error().empty()) {
    return finish_without_a_word(layers.error());
  }
  if (layers.has_output()) {
    schedule_flush();
  }
  if (layers.open()) {
    begin_handshake();
  }
}

// Stopped by a close() or end() of our own, or by what came.
void StreamCore::on_reader_stopped() {
  if (reader_.error().empty()) {
    return;
  }
  if (state_ == State::kShaking) {
    step(handshake_.refuse(reader_.error()));
  } else if (state_ == State::kOpen) {
    close(reader_.error());
  }
}

void StreamCore::on_stream_end(std::int64_t result) {
  switch (state_) {
    case State::kEnding:
    case State::kEnded: return;
    case State::kClosing:
    case State::kLingering: return end(reason_);
    default: break;
  }
  if (result < 0) {
    end(std::strerror(static_cast<int>(-result)));
  } else if (!write_error_.empty()) {
    end(write_error_);
  } else {
    end("the other side ended it without a word");
  }
}

std::byte* StreamCore::on_begin(const MessageHeader& header, std::span<const std::byte> head, std::string* reject) {
  if (header.type >= kFirstNetMessage) {
    *reject = "a data message has a type that is reserved";
    return nullptr;
  }
  return sink_->on_begin(header, head, reject);
}

void StreamCore::on_message(const MessageHeader& header, std::span<const std::byte> head,
                            std::span<const std::byte> body) {
  if (header.type < kFirstNetMessage) {
    sink_->on_message(header, head, body);
  } else if (header.lane == Lane::kControl) {
    on_net_message(static_cast<NetMessage>(header.type), body);
  } else {
    close("a data message has a type that is reserved");
  }
}

void StreamCore::on_net_message(NetMessage type, std::span<const std::byte> bytes) {
  if (state_ == State::kShaking) {
    begin_handshake();  // the first word may come in one piece with what opens the layers
    return step(handshake_.on_message(type, bytes));
  }
  switch (type) {
    case NetMessage::kPing:
      take_sending();
      queue_.push(NetMessage::kPong, bytes);
      return schedule_flush();
    case NetMessage::kPong: return;
    case NetMessage::kBye: return end("the other side closed it: " + text_of(bytes));
    default: return close("a message of the handshake came after it");
  }
}

// ---- the handshake ----

void StreamCore::begin_handshake() {
  if (!std::exchange(begun_, true)) {
    step(handshake_.start(setup_.layers.binding()));
  }
}

void StreamCore::step(const Handshake::Reply& reply) {
  if (reply && handshake_.state() != Handshake::State::kRefused) {
    queue_.push(reply->type, reply->bytes);
    schedule_flush();
  } else if (reply) {
    return finish_with(reply->type, handshake_.reason(), handshake_.reason());
  }
  switch (handshake_.state()) {
    case Handshake::State::kGoing: return;
    case Handshake::State::kRefused: return end("the other side refused: " + handshake_.reason());
    default: return after_handshake_step();
  }
}

// Proven (the host's turn) or done (the dialler's).
void StreamCore::after_handshake_step() {
  std::string refusal;
  ConnectionSink* sink = setup_.maker->on_proven(*facade_, &refusal);
  if (!alive() || facade_ == nullptr) {
    return;
  }
  if (sink == nullptr) {
    return finish_with(handshake_.state() == Handshake::State::kProven ? NetMessage::kRefusal : NetMessage::kBye,
                       refusal, refusal);
  }
  if (handshake_.state() == Handshake::State::kProven) {
    const Handshake::Reply welcome = handshake_.accept();
    queue_.push(welcome->type, welcome->bytes);
    schedule_flush();
  }
  open(sink);
}

void StreamCore::open(ConnectionSink* sink) {
  sink_ = sink;
  state_ = State::kOpen;
  setup_.maker = nullptr;
  reader_.lift_restriction();
  if (handshake_.is_end_to_end()) {
    reader_.take_unchecked();
    queue_.leave_unchecked();
  }
  forget_timer(deadline_timer_);
  sink_->on_open();
}

// ---- sending ----

void StreamCore::send(std::uint16_t type, Lane lane, std::uint64_t id, std::span<const std::byte> head,
                      std::span<const std::byte> body, std::uint64_t ticket) {
  if (state_ != State::kOpen) {
    if (ticket != 0 && state_ != State::kEnded) {
      late_.push_back(ticket);
    }
    return;
  }
  take_sending();
  queue_.push(type, lane, id, head, body, ticket);
  schedule_flush();
}

// Before anything is queued, and before the end: no other thread writes to the socket from here on.
void StreamCore::take_sending() {
  std::vector<std::byte> rest = direct_.take();
  if (!rest.empty()) {
    rest_ = std::move(rest);  // it was empty, or nothing would have been offered
    schedule_flush();
  }
}

// Others may send what is small: they keep the order, since nothing is queued and nothing under way.
void StreamCore::offer_sending() {
  const bool idle = state_ == State::kOpen && write_error_.empty() && nothing_to_send() && !sending();
  if (idle && setup_.layers.sends_anywhere() && !setup_.layers.has_output()) {
    direct_.offer(setup_.fd, setup_.layers, static_cast<bool>(watch_timer_));
  }
}

std::uint64_t StreamCore::unsent_bytes() const {
  std::uint64_t bytes = queue_.bytes() + rest_.size() + direct_.rest_bytes();
  for (const Flight& flight : flights_) {
    bytes += flight.busy ? flight.batch.total_bytes : 0;
  }
  return bytes;
}

// At the end of the round, so that all that is sent in it goes together.
void StreamCore::schedule_flush() {
  if (!flush_timer_ && alive() && !(flights_[0].busy && flights_[1].busy)) {
    flush_timer_ = setup_.reactor->timer(0, Handler::to<&StreamCore::on_flush>(this));
  }
}

void StreamCore::on_flush(const Completion& completion) {
  const Guard guard(*this);
  flush_timer_ = {};
  if (completion.result < 0) {
    return;  // the reactor closes down: the end of the stream is reported in its turn
  }
  pump();
}

void StreamCore::pump() {
  if (!alive() || !write_error_.empty()) {
    return;
  }
  take_sending();
  for (Flight& flight : flights_) {
    if (write_error_.empty() && !flight.busy && fill(flight)) {
      flight.busy = true;
      std::size_t count = 0;
      const auto pieces = flight.gather(&count);
      setup_.reactor->send(setup_.fd, std::span(pieces).first(count), Handler::to<&Flight::on_sent>(&flight));
    }
  }
  check_closing();
  offer_sending();
}

// The batch leaves a piece free: what is before its first body, the body, and last words.
std::array<iovec, Reactor::kMaxSendPieces> StreamCore::Flight::gather(std::size_t* count) const noexcept {
  std::array<iovec, Reactor::kMaxSendPieces> out{};
  *count = 0;
  if (!wire.empty()) {
    out[(*count)++] = {const_cast<std::byte*>(wire.data()), wire.size()};
  }
  if (in_place) {
    SETSUNA_ASSERT(*count + batch.piece_count <= out.size());
    const auto pieces = batch.gather();
    std::copy_n(pieces.begin(), batch.piece_count, out.begin() + static_cast<std::ptrdiff_t>(*count));
    *count += batch.piece_count;
  }
  return out;
}

// False: there is nothing.
bool StreamCore::fill(Flight& flight) {
  flight.wire.clear();
  if (!rest_.empty()) {
    flight.wire = std::exchange(rest_, {});  // not by swap(): it would keep what a batch took, and while idle, too
  }
  flight.batch.tickets.clear();
  flight.batch.total_bytes = 0;
  if (setup_.layers.empty()) {
    flight.in_place = queue_.fill(flight.batch);
  } else {
    fill_through_layers(flight);
  }
  return write_error_.empty() && (flight.in_place || !flight.wire.empty());
}

// What the layers have to say goes first: the others wait for it.
void StreamCore::fill_through_layers(Flight& flight) {
  LayerStack& layers = setup_.layers;
  flight.in_place = false;
  layers.take_output(flight.wire);
  if (layers.open() && !finished_ && queue_.fill(flight.batch)) {
    const auto gathered = flight.batch.gather();
    const auto pieces = std::span(gathered).first(flight.batch.piece_count);
    if (layers.send_before(pieces, flight.wire)) {
      flight.in_place = true;
      return;
    }
    flight.wire.reserve(flight.wire.size() + flight.batch.total_bytes + flight.batch.total_bytes / 128 + 512);
    if (!layers.send(pieces, flight.wire)) {
      write_error_ = layers.error();  // its tickets are released at the end
      set_deadline(0);
    }
  }
}

void StreamCore::on_batch_sent(Flight& flight, const Completion& completion) {
  const Guard guard(*this);
  flight.busy = false;
  if (completion.result < 0) {
    // What the other side said before it hung up may still be on its way to the reader.
    if (alive() && write_error_.empty()) {
      write_error_ = std::strerror(static_cast<int>(-completion.result));
      receiving_ ? set_deadline(kLastWordsNs) : end(write_error_);
    }
    flight.busy = true;  // its tickets are released at the end
    return;
  }
  if (state_ == State::kEnding) {
    flight.busy = true;
    return;
  }
  if (flight.batch.total_bytes >= kLargeBatch) {
    heard();  // it takes what we send: our question may be far behind it
  }
  const std::vector<std::uint64_t> tickets = std::exchange(flight.batch.tickets, {});
  if (queue_.empty() && flight.batch.bytes.capacity() > kIdleCapacity) {
    std::vector<std::byte>().swap(flight.batch.bytes);
  }
  if (queue_.empty() && flight.wire.capacity() > kIdleCapacity) {
    std::vector<std::byte>().swap(flight.wire);
  }
  pump();
  if (state_ == State::kClosing) {
    set_deadline(kStalledCloseNs);
  }
  release(tickets);
}

void StreamCore::release(std::span<const std::uint64_t> tickets) {
  for (const std::uint64_t ticket : tickets) {
    if (sink_ != nullptr) {
      sink_->on_sent(ticket);
    }
  }
}

// ---- ending ----

void StreamCore::close(const std::string& reason) {
  if (state_ == State::kOpen) {
    finish_with(NetMessage::kBye, reason, reason);
  }
}

void StreamCore::finish_with(NetMessage last, const std::string& told, const std::string& reason) {
  if (!setup_.layers.open()) {
    return finish_without_a_word(reason);
  }
  const Guard guard(*this);
  start_closing(reason);
  queue_.push_last(last, told);
}

// The layers below cannot carry it, or have an ending of their own.
void StreamCore::finish_without_a_word(const std::string& reason) {
  const Guard guard(*this);
  start_closing(reason);
  const std::vector<std::uint64_t> unsent = queue_.drop();
  late_.insert(late_.end(), unsent.begin(), unsent.end());
  finished_ = true;
}

void StreamCore::start_closing(const std::string& reason) {
  take_sending();
  state_ = State::kClosing;
  reason_ = reason;
  reader_.stop();
  forget_timer(watch_timer_);
  close_limit_ns_ = monotonic_ns() + kLongestCloseNs;
  set_deadline(kStalledCloseNs);
  schedule_flush();
  if (!write_error_.empty() || !receiving_) {
    end(reason_);
  }
}

void StreamCore::check_closing() {
  if (state_ != State::kClosing || !nothing_to_send() || sending()) {
    return;
  }
  if (!finished_ && !setup_.layers.empty()) {
    finished_ = true;
    setup_.layers.finish();
    if (setup_.layers.has_output()) {
      return pump();
    }
  }
  state_ = State::kLingering;
  ::shutdown(setup_.fd, SHUT_WR);
  set_deadline(kLingerNs);
}

void StreamCore::set_deadline(std::uint64_t ns_from_now) {
  forget_timer(deadline_timer_);
  std::uint64_t at = monotonic_ns() + ns_from_now;
  if (state_ == State::kClosing) {
    at = std::min(at, close_limit_ns_);
  }
  deadline_timer_ = setup_.reactor->timer(at, Handler::to<&StreamCore::on_deadline>(this));
}

void StreamCore::on_deadline(const Completion& completion) {
  const Guard guard(*this);
  deadline_timer_ = {};
  if (completion.result < 0) {
    return;
  }
  if (state_ == State::kShaking && write_error_.empty()) {
    step(handshake_.refuse("it did not introduce itself in time"));
  } else if (alive()) {
    end(reason_.empty() ? write_error_ : reason_);
  }
}

// What the kernel works on comes back first.
void StreamCore::end(const std::string& reason) {
  if (!alive()) {
    return;
  }
  take_sending();
  state_ = State::kEnding;
  reason_ = reason;
  reader_.stop();
  forget_timer(flush_timer_);
  forget_timer(deadline_timer_);
  forget_timer(watch_timer_);
  setup_.reactor->close(setup_.fd, Handler::to<&StreamCore::on_fd_closed>(this));
}

void StreamCore::on_fd_closed(const Completion&) {
  const Guard guard(*this);
  report_end();
}

// Each call may destroy the connection: then there is nobody left to be told.
void StreamCore::report_end() {
  const bool was_open = sink_ != nullptr;
  if (const MessageHeader* torn = reader_.torn(); torn != nullptr && sink_ != nullptr) {
    sink_->on_torn(*torn);
  }
  for (Flight& flight : flights_) {
    release(std::exchange(flight.batch.tickets, {}));
  }
  release(queue_.drop());
  release(std::exchange(late_, {}));
  state_ = State::kEnded;  // before the last call, inside which the connection may be destroyed
  if (facade_ == nullptr) {
    return;
  }
  if (was_open) {
    sink_->on_closed("the connection to " + setup_.peer + " has ended: " + reason_);
  } else {
    setup_.maker->on_failed(*facade_, reason_);
  }
}

void StreamCore::forget_timer(Token& token) {
  if (token) {
    setup_.reactor->forget(token);
    token = {};
  }
}

// ---- watching ----

void StreamCore::set_watchful(bool on) {
  if (on == watch_.is_on() || state_ != State::kOpen) {
    return;
  }
  if (!on) {
    watch_.on.store(false, std::memory_order_relaxed);
    return;
  }
  watch_.begin(monotonic_ns());
  if (!watch_timer_) {
    watch_at(monotonic_ns() + Connection::kAskAfterNs);
  }
}

void StreamCore::heard() {
  if (watch_.is_on()) {
    watch_.heard_ns.store(monotonic_ns(), std::memory_order_relaxed);
  }
}

void StreamCore::watch_at(std::uint64_t deadline_ns) {
  watch_timer_ = setup_.reactor->timer(deadline_ns, Handler::to<&StreamCore::on_watch>(this));
}

void StreamCore::on_watch(const Completion& completion) {
  const Guard guard(*this);
  watch_timer_ = {};
  if (completion.result < 0 || state_ != State::kOpen) {
    return;
  }
  take_sending();  // nobody else begins to watch, until it is offered again
  if (watch_.is_on()) {
    look_after_peer();
  }
  offer_sending();
}

void StreamCore::look_after_peer() {
  const std::uint64_t now = monotonic_ns();
  const std::uint64_t heard_ns = watch_.heard_ns.load(std::memory_order_relaxed);
  const std::uint64_t silent = now - std::min(now, heard_ns);
  if (silent >= Connection::kSilentNs) {
    return end("nothing was heard from the other side for " + std::to_string(silent / kNanosPerSecond) + " s");
  }
  if (silent < Connection::kAskAfterNs) {
    return watch_at(heard_ns + Connection::kAskAfterNs);
  }
  queue_.push(NetMessage::kPing, {});
  schedule_flush();
  watch_at(std::min(now + Connection::kAskAfterNs, heard_ns + Connection::kSilentNs));
}

}  // namespace setsuna::net
