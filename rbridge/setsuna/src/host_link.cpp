#include "host_link.hpp"

#include <cstring>

#include "host.hpp"
#include "runtime/clock.hpp"

namespace setsuna::host {

using dispatch::bytes_of;
using dispatch::LinkMessage;
using dispatch::read_head;
using dispatch::type_of;
using net::Lane;

HostLink::HostLink(Host& host, std::uint64_t profile, std::uint32_t seat, std::unique_ptr<net::Connection> connection)
    : host_(host), profile_(profile), seat_(seat), link_(dispatch::kNoLink), connection_(std::move(connection)) {
  read_head(connection_->peer_greeting(), &greeting_);
}

std::uint64_t HostLink::ticket_for(bool constant, std::uint64_t id) {
  on_its_way_[++last_ticket_] = {constant, id};
  return last_ticket_;
}

void HostLink::send_task(std::uint64_t id, const dispatch::LinkTask& head, std::span<const std::byte> body,
                         bool small) {
  connection_->set_watchful(true);
  connection_->send(type_of(LinkMessage::kTask), Lane::kData, id, bytes_of(head), body,
                    small ? 0 : ticket_for(false, id));
}

net::Connection::SentNow HostLink::send_task_now(std::uint64_t id, const dispatch::LinkTask& head,
                                                 std::span<const std::byte> body) {
  return connection_->send_now(type_of(LinkMessage::kTask), id, bytes_of(head), body, true);
}

void HostLink::send_constant(std::uint64_t key, std::span<const std::byte> body) {
  connection_->send(type_of(LinkMessage::kConstant), Lane::kData, key, {}, body, ticket_for(true, key));
}

void HostLink::send_forget(std::uint64_t key) {
  connection_->send(type_of(LinkMessage::kForget), Lane::kData, key, {}, {}, 0);
}

void HostLink::send_control(LinkMessage what, std::uint64_t id) { connection_->send_control(type_of(what), id); }

void HostLink::send_order(LinkMessage what, std::uint64_t id, bool behind) {
  connection_->send(type_of(what), behind ? Lane::kData : Lane::kControl, id, {}, {}, 0);
}

void HostLink::cancel_element(std::uint64_t id, std::uint32_t position, bool behind) {
  const dispatch::LinkCancel head{position};
  connection_->send(type_of(LinkMessage::kCancel), behind ? Lane::kData : Lane::kControl, id, bytes_of(head), {}, 0);
}

void HostLink::stop(bool final) {
  const dispatch::LinkStop head{final ? 1U : 0U};
  connection_->send_control(type_of(LinkMessage::kStop), 0, bytes_of(head));
}

void HostLink::kill() {
  send_control(LinkMessage::kKill, 0);
  close("its daemon was told to end: a task did not react to its cancellation");
}

// --- What the connection tells -----------------------------------------------------------------------------

void HostLink::welcome(Profile& profile) {
  dispatch::LinkWelcome head;
  // Local daemons have the first streams.
  const std::uint32_t place = profile.seats.shared() ? link_ : seat_;
  head.index = static_cast<std::int32_t>(dispatch::kLinkQueueBase + place);
  head.instance = profile.seats.shared() ? 1 : profile.seats[seat_].instance;
  std::memcpy(head.stream, profile.config().base_stream.data(), sizeof(head.stream));
  head.encoding = profile.encoding();
  const auto& hooks = profile.config().hooks;
  connection_->send(type_of(LinkMessage::kWelcome), Lane::kData, 0, bytes_of(head), std::as_bytes(std::span(hooks)), 0);
}

void HostLink::on_open() {
  std::unique_lock<std::mutex> lock(host_.mutex());
  Profile* profile = host_.profile_by_serial(profile_);
  link_ = profile == nullptr || profile->pool().closed() ? dispatch::kNoLink : profile->pool().add_link(greeting_.pid);
  if (link_ == dispatch::kNoLink) {
    if (profile != nullptr && profile->pool().closed()) {
      stop(profile->is_final());  // one that would wait for the next host must know whether there will be one
      connection_->close("the host has just been reset");
    } else {
      connection_->close("there is no place for another daemon");
    }
    return;
  }
  if (!profile->seats.shared()) {
    profile->seats.sit_down(seat_, link_);
  }
  welcome(*profile);  // before what the pool has queued for it
  profile->links.attach(link_, this);
  host_.links_changed(*profile);
  lock.unlock();
  host_.run_notifications();
}

std::byte* HostLink::on_begin(const net::MessageHeader& header, std::span<const std::byte>, std::string* reject) {
  const std::lock_guard<std::mutex> lock(host_.mutex());
  Profile* profile = host_.profile_by_serial(profile_);
  const bool range = header.type == type_of(LinkMessage::kRange) && header.body_bytes <= runtime::kInlineResultBytes;
  if (!range && header.type != type_of(LinkMessage::kResult) && header.type != type_of(LinkMessage::kElement)) {
    *reject = "it sent a message that a daemon does not send";
    return nullptr;
  }
  if (profile == nullptr || header.body_bytes <= runtime::kInlineResultBytes) {
    return nullptr;
  }
  const runtime::Block block = profile->arena().alloc(header.body_bytes);
  if (!block) {
    return nullptr;  // received all the same, so that the link goes on; there is a last chance when it is complete
  }
  incoming_ = block.offset;
  receiving_ = true;
  return reinterpret_cast<std::byte*>(profile->arena().at(block.offset));
}

void HostLink::release_incoming(Profile& profile) {
  if (receiving_) {
    profile.arena().host_release(incoming_);
    receiving_ = false;
  }
}

void HostLink::on_torn(const net::MessageHeader&) {
  const std::lock_guard<std::mutex> lock(host_.mutex());
  if (Profile* profile = host_.profile_by_serial(profile_)) {
    release_incoming(*profile);
  }
}

// `body` is in the block that it was received into, if it is large.
dispatch::SlotResult HostLink::outcome(Profile& profile, runtime::ResultStatus status,
                                       std::span<const std::byte> body) {
  dispatch::SlotResult result;
  result.status = status <= runtime::ResultStatus::kDamaged ? status : runtime::ResultStatus::kDamaged;
  result.bytes = body.size();
  result.inline_bytes = reinterpret_cast<const std::uint8_t*>(body.data());
  if (receiving_) {
    result.inline_bytes = nullptr;
    result.offset = incoming_;
    receiving_ = false;
  } else if (body.size() > runtime::kInlineResultBytes) {
    const runtime::Block block = profile.arena().alloc(body.size());
    if (block) {
      std::memcpy(profile.arena().at(block.offset), body.data(), body.size());
      result.inline_bytes = nullptr;
      result.offset = block.offset;
    } else {
      result.status = runtime::ResultStatus::kDamaged;
      result.bytes = 0;
    }
  }
  static const std::uint8_t nothing[1] = {0};
  if (result.bytes == 0) {
    result.inline_bytes = nothing;
  }
  return result;
}

void HostLink::answered(Profile& profile, std::uint32_t took_us) {
  if (profile.pace.add(took_us)) {
    profile.pool().set_prefetch(profile.pace.depth());
  }
}

void HostLink::take_result(Profile& profile, const net::MessageHeader& header, std::span<const std::byte> head,
                           std::span<const std::byte> body) {
  dispatch::LinkResult said;
  said.status = runtime::ResultStatus::kDamaged;
  read_head(head, &said);
  dispatch::SlotResult result = outcome(profile, said.status, body);
  result.took_ns = said.took_us * runtime::kNanosPerMicro;
  result.element_ns = said.element_ns;
  answered(profile, said.took_us);
  profile.pool().on_link_result(link_, header.id, result);
}

void HostLink::take_element(Profile& profile, const net::MessageHeader& header, std::span<const std::byte> head,
                            std::span<const std::byte> body) {
  dispatch::LinkElement said;
  said.position = runtime::kRangeMax;  // none
  read_head(head, &said);
  profile.pool().on_link_element(link_, header.id, said.position, outcome(profile, said.status, body));
}

void HostLink::take_range(Profile& profile, const net::MessageHeader& header, std::span<const std::byte> head,
                          std::span<const std::byte> body) {
  dispatch::LinkRange said;
  if (!read_head(head, &said)) {
    connection_->close("it sent a damaged report");
    return;
  }
  dispatch::RangeReport report;
  report.entries = reinterpret_cast<const std::uint8_t*>(body.data());
  report.bytes = static_cast<std::uint32_t>(body.size());
  report.count = said.count;
  report.taken = said.taken;
  report.element_ns = said.element_ns;
  report.final = said.final != 0;
  report.damaged = said.damaged != 0;
  if (report.final) {
    answered(profile, said.took_us);
  }
  profile.pool().on_link_range(link_, header.id, report);
}

void HostLink::on_message(const net::MessageHeader& header, std::span<const std::byte> head,
                          std::span<const std::byte> body) {
  {
    const std::lock_guard<std::mutex> lock(host_.mutex());
    Profile* profile = host_.profile_by_serial(profile_);
    if (profile == nullptr || link_ == dispatch::kNoLink) {
      return;
    }
    switch (static_cast<LinkMessage>(header.type)) {
      case LinkMessage::kResult: take_result(*profile, header, head, body); break;
      case LinkMessage::kElement: take_element(*profile, header, head, body); break;
      case LinkMessage::kRange: take_range(*profile, header, head, body); break;
      case LinkMessage::kRetracted: profile->pool().on_link_retracted(link_, header.id); break;
      case LinkMessage::kLeaving: profile->pool().on_link_leaving(link_); break;
      default: connection_->close("it sent a message that a daemon does not send"); return;
    }
    if (profile->pool().links()[link_].in_flight == 0) {
      connection_->set_watchful(false);
    }
    host_.links_changed(*profile);
  }
  host_.run_notifications();
}

void HostLink::on_sent(std::uint64_t ticket) {
  const std::lock_guard<std::mutex> lock(host_.mutex());
  const auto found = on_its_way_.find(ticket);
  if (found == on_its_way_.end()) {
    return;
  }
  const OnItsWay sent = found->second;
  on_its_way_.erase(found);
  Profile* profile = host_.profile_by_serial(profile_);
  if (profile == nullptr || link_ == dispatch::kNoLink) {
    return;
  }
  if (sent.constant) {
    profile->pool().on_link_constant_sent(link_, sent.id);
  } else {
    profile->pool().on_link_sent(link_, sent.id);
  }
  host_.links_changed(*profile);
}

void HostLink::on_closed(const std::string& reason) {
  const std::unique_ptr<HostLink> self(this);
  {
    const std::lock_guard<std::mutex> lock(host_.mutex());
    Profile* profile = host_.profile_by_serial(profile_);
    if (profile == nullptr) {
      return;
    }
    --profile->links.open;
    if (!profile->seats.shared()) {
      profile->leave_link_seat(seat_, link_);
    }
    if (link_ != dispatch::kNoLink) {
      profile->links.detach(link_);
      dispatch::DeathNote note;
      note.pid = greeting_.pid;
      note.wait_status = -1;
      profile->pool().on_link_dead(link_, note);
      profile->log(reason);
    }
    host_.links_changed(*profile);
    host_.wake_for_finished(*profile);
  }
  host_.run_notifications();
}

}  // namespace setsuna::host
