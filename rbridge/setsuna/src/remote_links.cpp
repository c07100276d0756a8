#include "remote_links.hpp"

#include <cstring>
#include <span>

#include "host_link.hpp"
#include "profile.hpp"

namespace setsuna::host {

using dispatch::LinkMessage;

namespace {

dispatch::LinkTask head_of(const dispatch::SlotContent& content) {
  dispatch::LinkTask head;
  head.kind = content.kind;
  head.flags = content.flags;
  if (content.stream != nullptr) {
    std::memcpy(head.rng, content.stream, sizeof(head.rng));
  }
  head.const_key = content.const_bytes > 0 ? content.const_key : 0;
  return head;
}

}  // namespace

void RemoteLinks::send_task(std::uint32_t link, std::uint64_t id, const dispatch::SlotContent& content) {
  outbox_.push_back({LinkMessage::kTask, link, id, content, 0, 0});
}

void RemoteLinks::send_constant(std::uint32_t link, std::uint64_t key, std::uint64_t offset, std::uint64_t bytes) {
  outbox_.push_back({LinkMessage::kConstant, link, key, {}, offset, bytes});
}

void RemoteLinks::say(LinkMessage what, std::uint32_t link, std::uint64_t id, bool behind) {
  outbox_.push_back({what, link, id, {}, 0, 0, {}, false, behind});
}

void RemoteLinks::forget_constant(std::uint32_t link, std::uint64_t key) { say(LinkMessage::kForget, link, key); }
void RemoteLinks::cancel(std::uint32_t link, std::uint64_t id, bool behind) {
  say(LinkMessage::kCancel, link, id, behind);
}
void RemoteLinks::cancel_element(std::uint32_t link, std::uint64_t id, std::uint32_t position, bool behind) {
  outbox_.push_back({LinkMessage::kCancel, link, id, {}, 0, 0, position, false, behind});
}
void RemoteLinks::retract(std::uint32_t link, std::uint64_t id, bool behind) {
  say(LinkMessage::kRetract, link, id, behind);
}
void RemoteLinks::kill(std::uint32_t link) { say(LinkMessage::kKill, link, 0); }
void RemoteLinks::stop(std::uint32_t link) { say(LinkMessage::kStop, link, 0); }

void RemoteLinks::attach(std::uint32_t link, HostLink* connection) {
  if (links_.size() <= link) {
    links_.resize(link + 1, nullptr);
  }
  links_[link] = connection;
  ++connected_;
}

// What was still to be sent to it refers to slots and blocks that the pool takes back now.
void RemoteLinks::detach(std::uint32_t link) {
  links_[link] = nullptr;
  --connected_;
  std::erase_if(outbox_, [&](const Command& command) { return command.link == link; });
}

// The pool is told what has left, and may then have more to send.
bool RemoteLinks::flush(Profile& profile) {
  const bool any = !outbox_.empty();
  std::vector<Command> taken;
  while (!outbox_.empty()) {
    taken.clear();
    taken.swap(outbox_);
    for (const Command& command : taken) {
      HostLink* to = command.link < links_.size() ? links_[command.link] : nullptr;
      if (to != nullptr) {
        send(profile, *to, command);
      }
    }
  }
  return any;
}

void RemoteLinks::send(Profile& profile, HostLink& to, const Command& command) {
  switch (command.what) {
    case LinkMessage::kTask: command.rest ? to.resume() : send_task(profile, to, command); break;
    case LinkMessage::kConstant: {
      const auto* bytes = reinterpret_cast<const std::byte*>(profile.segment().base()) + command.offset;
      to.send_constant(command.id, {bytes, command.bytes});
      break;
    }
    case LinkMessage::kForget: to.send_forget(command.id); break;
    case LinkMessage::kKill: to.kill(); break;
    case LinkMessage::kStop: to.stop(profile.is_final()); break;  // the first word is what a daemon acts on
    default:
      command.position ? to.cancel_element(command.id, *command.position, command.behind)
                       : to.send_order(command.what, command.id, command.behind);
      break;
  }
}

void RemoteLinks::send_task(Profile& profile, HostLink& to, const Command& command) {
  const dispatch::SlotContent& content = command.content;
  const bool small = content.inline_arg != nullptr;
  const auto* bytes = small ? reinterpret_cast<const std::byte*>(content.inline_arg)
                            : reinterpret_cast<const std::byte*>(profile.segment().base()) + content.arg_offset;
  to.send_task(command.id, head_of(content), {bytes, content.arg_bytes}, small);
  if (small) {
    profile.pool().on_link_sent(command.link, command.id);  // it was copied
  }
}

void RemoteLinks::send_now(Profile& profile) {
  if (outbox_.size() != 1 || outbox_[0].what != LinkMessage::kTask || outbox_[0].rest) {
    return;
  }
  Command& command = outbox_[0];
  const dispatch::SlotContent& content = command.content;
  HostLink* to = command.link < links_.size() ? links_[command.link] : nullptr;
  if (to == nullptr || content.inline_arg == nullptr) {
    return;
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(content.inline_arg);
  const auto sent = to->send_task_now(command.id, head_of(content), {bytes, content.arg_bytes});
  if (sent == net::Connection::SentNow::kNo) {
    return;
  }
  const std::uint32_t link = command.link;
  const std::uint64_t id = command.id;
  if (sent == net::Connection::SentNow::kPart) {
    command.rest = true;
  } else {
    outbox_.clear();
  }
  profile.pool().on_link_sent(link, id);  // the rest, if any, was copied
}

void RemoteLinks::end(bool final) {
  for (HostLink* link : links_) {
    if (link != nullptr) {
      link->stop(final);
      link->close("the host was reset");
    }
  }
}

}  // namespace setsuna::host
