// Daemons of this machine that dial in, and the listeners at which they do.
#include "host.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <span>

#include "net/unix_socket.hpp"
#include "net/url.hpp"
#include "rbridge/embed/build_id.hpp"
#include "runtime/clock.hpp"
#include "runtime/pidfd.hpp"

namespace setsuna::host {
namespace {

constexpr std::uint64_t kListenAgainNs = 1'000'000'000;
constexpr std::uint64_t kDoorClosesNs = 1'000'000;

}  // namespace

namespace {

// What an accept operation knows: the profile by its serial, since it may be gone by then, and the seat.
struct Door {
  std::uint64_t profile;
  std::uint32_t seat;
};
constexpr int kSeatBits = 16;

void* door_context(std::uint64_t profile, std::uint32_t seat) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(profile << kSeatBits | seat));
}

Door door_of(void* context) {
  const auto bits = reinterpret_cast<std::uintptr_t>(context);
  return {bits >> kSeatBits, static_cast<std::uint32_t>(bits & ((1U << kSeatBits) - 1))};
}

}  // namespace

void Host::tend_local_listeners(Profile& profile) {
  std::erase_if(profile.local_listeners, [&](LocalListener& listener) {
    const bool moved = profile.seats[listener.seat].url != listener.url;
    if (moved) {
      close_local_listener(listener);
    } else {
      open_local_listener(profile, listener);
    }
    return moved;
  });
}

void Host::tend_doors(Profile& profile) {
  profile.old_doors.clear();
  for (auto& door : profile.doors) {
    if (!door->open()) {
      door->start(*this, profile.serial, *reactor_);
    }
  }
}

void Host::open_local_listener(const Profile& profile, LocalListener& listener) {
  if (listener.fd) {
    listener.adopted = reactor_->adopt(listener.fd.release());
    reactor_->accept(listener.adopted, net::Handler(&Host::on_dialled, door_context(profile.serial, listener.seat)));
  }
}

void Host::close_local_listener(LocalListener& listener) {
  listener.fd.reset();
  if (listener.adopted >= 0) {
    ++closing_listeners_;
    reactor_->close(listener.adopted, net::Handler::to<&Host::on_listener_closed>(this));
    listener.adopted = -1;
  }
  net::unlink_unix(listener.url);
}

void Host::on_dialled(void* context, const net::Completion& completion) {
  Host* host = Host::existing();
  if (completion.result == -ECANCELED) {
    return;  // the listener was closed
  }
  if (completion.result < 0) {  // no descriptor was left, most likely: once more when there may be one again
    host->reactor_->timer(runtime::monotonic_ns() + kListenAgainNs, net::Handler(&Host::on_listen_again, context));
    return;
  }
  const int fd = static_cast<int>(completion.result);
  const Door door = door_of(context);
  auto* guest = new Guest{host, door.profile, door.seat, fd};
  host->reactor_->watch_readable(fd, net::Handler(&Host::on_join_request, guest));
}

void Host::on_listen_again(void* context, const net::Completion&) {
  Host* host = Host::existing();
  std::lock_guard<std::mutex> lock(host->mutex_);
  const Door door = door_of(context);
  Profile* profile = host->profile_by_serial(door.profile);
  for (std::size_t i = 0; profile != nullptr && i < profile->local_listeners.size(); ++i) {
    if (profile->local_listeners[i].seat == door.seat && profile->local_listeners[i].adopted >= 0) {
      host->reactor_->accept(profile->local_listeners[i].adopted, net::Handler(&Host::on_dialled, context));
    }
  }
}

void Host::on_join_request(void* context, const net::Completion& completion) {
  auto* guest = static_cast<Guest*>(context);
  Host* host = guest->host;
  if (guest->fd >= 0) {
    embed::JoinRequest request{};
    const net::ReceivedMessage message =
        net::receive_message(guest->fd, std::as_writable_bytes(std::span(&request, 1)), net::Blocking::kNo);
    if (message.bytes != -EAGAIN) {
      std::lock_guard<std::mutex> lock(host->mutex_);
      Profile* profile = host->profile_by_serial(guest->profile);
      if (message.bytes == static_cast<ssize_t>(sizeof(request)) && profile != nullptr && !profile->pool().closed()) {
        std::uint32_t index = runtime::kNoSlot;
        const embed::JoinReply reply = host->answer_join(*profile, request, *guest, &index);
        const int fds[embed::kJoinFds] = {profile->segment().fd(), host->page_.fd(), profile->doorbell().fd(),
                                          host->own_pidfd_.get()};
        const std::span<const int> given = reply.welcome != 0 ? std::span<const int>(fds) : std::span<const int>();
        net::send_message(guest->fd, std::as_bytes(std::span(&reply, 1)), given, net::Blocking::kNo);
        if (index != runtime::kNoSlot) {
          host->watch_daemon(*profile, index);
        }
      }
      host->reactor_->close(guest->fd);  // ends this watch as well
      guest->fd = -1;
    }
  }
  if (!completion.more) {
    delete guest;
  }
}

embed::JoinReply Host::answer_join(Profile& profile, const embed::JoinRequest& request, const Guest& guest,
                                   std::uint32_t* index) {
  embed::JoinReply reply{};
  reply.magic = embed::kJoinMagic;
  const auto refuse = [&](const char* why) {
    std::snprintf(reply.message, sizeof(reply.message), "%s", why);
    return reply;
  };
  if (!net::peer_is_same_user(guest.fd)) {
    return refuse("it belongs to another user");
  }
  if (request.magic != embed::kJoinMagic || request.version != embed::kJoinVersion ||
      request.layout_hash != runtime::kLayoutHash ||
      runtime::BuildId{request.build_id[0], request.build_id[1]} != embed::build_id()) {
    return refuse("its version of setsuna or of R is another one: install the same on both sides");
  }
  if (guest.seat >= profile.seats.count() || profile.seats.taken(guest.seat)) {
    return refuse("another daemon has this URL: each takes one, use one that is free");
  }
  runtime::UniqueFd pidfd = net::peer_pidfd(guest.fd);
  if (!pidfd) {
    return refuse("the process that dialled cannot be watched");
  }
  std::uint32_t epoch = 0;
  *index = profile.admit_external(std::move(pidfd), request.pid, &epoch);
  if (*index == runtime::kNoSlot) {
    return refuse("no place is left for another daemon");
  }
  profile.seats.take(guest.seat, Seat::Occupant::kDaemon, *index);
  reply.welcome = 1;
  reply.index = *index;
  reply.epoch = epoch;
  reply.has_stream = 1;
  std::memcpy(reply.stream, profile.config().base_stream.data(), sizeof(reply.stream));
  return reply;
}

void Host::move_seat(Profile& profile, std::uint32_t seat, Opened opened) {
  if (profile.seats.taken(seat)) {
    if (profile.seats[seat].occupant == Seat::Occupant::kDaemon) {
      profile.kill(profile.seats[seat].index);
    } else if (profile.seats[seat].index != dispatch::kNoLink) {
      profile.links.kill(profile.seats[seat].index);
    }
    profile.seats.leave(seat, 0, 0);
  }
  std::erase_if(profile.doors, [&](std::unique_ptr<NetDoor>& door) {
    const bool empty = door->forget_seat(seat);
    if (empty) {
      profile.old_doors.push_back(std::move(door));
    }
    return empty;
  });
  for (LocalListener& fresh : opened.local) {
    fresh.seat = seat;
    profile.local_listeners.push_back(std::move(fresh));
  }
  for (std::unique_ptr<NetDoor>& fresh : opened.doors) {
    fresh->leads_to(seat);
    profile.doors.push_back(std::move(fresh));
  }
  profile.seats.set_url(seat, opened.urls[0]);
  reactor_->wake();  // which ends the listeners of URLs that are not in use any more
}

}  // namespace setsuna::host
