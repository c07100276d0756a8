// A profile's remote daemons: what its pool wants sent goes to connections. Under the host's mutex. No R in here.
//
// The pool may speak on any thread, connections are used on the reactor thread: what is to be sent waits in between. But a
// single small task does not, since waking that thread takes longer than sending it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "dispatch/link_wire.hpp"
#include "dispatch/ports.hpp"

namespace setsuna::host {

class Profile;
class HostLink;

class RemoteLinks final : public dispatch::LinkPort {
 public:
  // dispatch::LinkPort
  void send_task(std::uint32_t link, std::uint64_t id, const dispatch::SlotContent& content) override;
  void send_constant(std::uint32_t link, std::uint64_t key, std::uint64_t offset, std::uint64_t bytes) override;
  void forget_constant(std::uint32_t link, std::uint64_t key) override;
  void cancel(std::uint32_t link, std::uint64_t id, bool behind) override;
  void cancel_element(std::uint32_t link, std::uint64_t id, std::uint32_t position, bool behind) override;
  void retract(std::uint32_t link, std::uint64_t id, bool behind) override;
  void kill(std::uint32_t link) override;
  void stop(std::uint32_t link) override;

  bool waiting() const { return !outbox_.empty(); }
  // Any thread: one small task, if it is all that waits, goes out here and now. Else it waits for the reactor thread.
  void send_now(Profile& profile);
  std::uint32_t connected() const { return connected_; }

  // Reactor thread.
  void attach(std::uint32_t link, HostLink* connection);
  void detach(std::uint32_t link);
  bool flush(Profile& profile);  // true: there was something
  // Every connection ends; `final`: daemons that would wait for another host end as well.
  void end(bool final);

  // Connections that are not gone yet, with a link or without.
  std::uint32_t open = 0;

 private:
  struct Command {
    dispatch::LinkMessage what;
    std::uint32_t link;
    std::uint64_t id;
    dispatch::SlotContent content;  // kTask
    std::uint64_t offset;           // kConstant
    std::uint64_t bytes;
    std::optional<std::uint32_t> position = {};  // kCancel: of an element in its range
    bool rest = false;                           // of a task: it has been sent, but for its end
    bool behind = false;                         // kCancel, kRetract: see LinkPort
  };

  void say(dispatch::LinkMessage what, std::uint32_t link, std::uint64_t id, bool behind = false);
  void send(Profile& profile, HostLink& to, const Command& command);
  void send_task(Profile& profile, HostLink& to, const Command& command);

  std::vector<HostLink*> links_;  // by number; null: none
  std::vector<Command> outbox_;
  std::uint32_t connected_ = 0;
};

}  // namespace setsuna::host
