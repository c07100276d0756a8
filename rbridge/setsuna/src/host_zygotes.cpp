// The host and its fork servers: which one starts whose daemons, what it reports, what happens when it dies.
#include "host.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "runtime/pidfd.hpp"

namespace setsuna::host {
namespace {

// Fork servers are shared by profiles: the wire's epoch also says which profile.
constexpr std::uint32_t wire_epoch(std::uint32_t profile, std::uint32_t epoch) { return (profile << 16) | epoch; }

constexpr int kZygoteFailuresMax = 2;

}  // namespace

Host::Zygote* Host::zygote_for(const std::string& key) {
  for (auto& zygote : zygotes_) {
    if (!zygote->dead && !zygote->retired && zygote->key == key) {
      return zygote.get();
    }
  }
  return nullptr;
}

void Host::ensure_zygote(const std::string& key, const embed::ZygoteSpawn& spawn) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (zygote_for(key) != nullptr) {
      return;
    }
  }
  auto zygote = std::make_unique<Zygote>();
  zygote->key = key;
  zygote->spawn = spawn;
  zygote->host = this;
  if (const int error = zygote->client.start(spawn); error != 0) {
    throw std::runtime_error("the daemons' fork server '" + spawn.program +
                             "' cannot be started: " + std::strerror(error));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& other : zygotes_) {
    if (!other->dead && !other->retired && !key_in_use(other->key)) {
      other->retired = true;  // replaced: it ends with its last daemon
      other->client.stop();
    }
  }
  zygotes_.push_back(std::move(zygote));
  reactor_->wake();
}

bool Host::key_in_use(const std::string& key) const {
  return std::any_of(profiles_.begin(), profiles_.end(), [&](const auto& profile) {
    return profile && !profile->pool().closed() && profile->config().zygote_key == key;
  });
}

// The daemons of this key that were asked for and cannot come. False: there were none.
bool Host::fail_spawns(const std::string& key, const std::string& why) {
  bool any = false;
  for (auto& profile : profiles_) {
    if (!profile || profile->pool().closed() || profile->config().zygote_key != key) {
      continue;
    }
    static_cast<void>(profile->take_spawns());
    for (std::uint32_t i = 0; i < profile->process_count(); ++i) {
      DaemonProcess& process = profile->process(i);
      if (!process.external && !process.reported && !process.watched) {
        process.reported = true;
        daemon_failed(*profile, i, process.epoch, why);
        any = true;
      }
    }
    after_change(*profile);
  }
  return any;
}

void Host::restart_lost_zygotes() {
  zygote_lost_.store(false, std::memory_order_release);
  std::vector<std::pair<std::string, embed::ZygoteSpawn>> wanted;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& profile : profiles_) {
      if (!profile || profile->pool().closed() || profile->pool().gave_up() ||
          zygote_for(profile->config().zygote_key) != nullptr) {
        continue;
      }
      for (auto it = zygotes_.rbegin(); it != zygotes_.rend(); ++it) {
        if ((*it)->key == profile->config().zygote_key && (*it)->failures < kZygoteFailuresMax) {
          wanted.emplace_back((*it)->key, (*it)->spawn);
          break;
        }
      }
    }
  }
  for (const auto& [key, spawn] : wanted) {
    try {
      ensure_zygote(key, spawn);
    } catch (const std::exception& error) {
      std::lock_guard<std::mutex> lock(mutex_);
      while (fail_spawns(key, error.what())) {
        // The pool orders a replacement for each, until it gives up.
      }
    }
  }
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& profile : profiles_) {
    if (profile) {
      flush_spawns(*profile);
    }
  }
}

void Host::retire_zygotes() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& zygote : zygotes_) {
    if (!zygote->dead && !zygote->retired) {
      zygote->retired = true;
      zygote->client.stop();
    }
  }
  reactor_->wake();
}

std::string Host::threaded_packages(const std::string& key) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Zygote* zygote = zygote_for(key);
  return zygote == nullptr ? std::string() : zygote->threaded_packages;
}

void Host::flush_spawns(Profile& profile) {
  if (!profile.spawns_waiting()) {
    return;
  }
  Zygote* zygote = zygote_for(profile.config().zygote_key);
  if (zygote == nullptr) {
    zygote_lost_.store(true, std::memory_order_release);
    return;  // they wait in the profile for a new fork server
  }
  const std::vector<SpawnRequest> spawns = profile.take_spawns();
  // One request for each run of daemons that start with the same configuration.
  for (std::size_t first = 0, last = 0; first < spawns.size(); first = last) {
    const DaemonStart* start = profile.process(spawns[first].index).start.get();
    std::vector<embed::DaemonId> ids;
    while (last < spawns.size() && profile.process(spawns[last].index).start.get() == start) {
      ids.push_back({spawns[last].index, wire_epoch(profile.id(), spawns[last].epoch)});
      ++last;
    }
    order_forks(*zygote, profile, ids, start);
  }
  if (zygote->client.wants_write()) {
    reactor_->wake();
  }
}

void Host::order_forks(Zygote& zygote, Profile& profile, const std::vector<embed::DaemonId>& ids,
                       const DaemonStart* start) {
  const ProfileConfig& config = profile.config();
  const bool output = start != nullptr ? start->output : config.output;
  embed::ForkOrder order;
  order.daemons = ids.data();
  order.count = ids.size();
  order.segment_fd = profile.segment().fd();
  order.host_page_fd = page_.fd();
  order.refill_fd = profile.doorbell().fd();
  order.config_fd = start != nullptr ? start->config_fd.get() : config.config_fd.get();
  order.stdout_fd = output ? 1 : -1;
  order.stderr_fd = output ? 2 : -1;
  order.autoexit = start != nullptr ? start->autoexit : config.autoexit;
  for (const embed::DaemonId& id : ids) {
    profile.process(id.index).fork_server = &zygote;
  }
  zygote.client.request_fork(order);
}

Profile* Host::profile_of(embed::DaemonId id, std::uint32_t* epoch) {
  *epoch = id.epoch & 0xFFFFU;
  return profile(id.epoch >> 16);
}

void Host::on_zygote_message(void* context, const net::Completion&) {
  auto* zygote = static_cast<Zygote*>(context);
  Host* host = zygote->host;
  {
    std::lock_guard<std::mutex> lock(host->mutex_);
    for (embed::ZygoteEvent& event : zygote->client.on_readable()) {
      host->handle(*zygote, event);
    }
    host->set_timer();
  }
  host->run_notifications();
}

void Host::handle(Zygote& zygote, embed::ZygoteEvent& event) {
  using Kind = embed::ZygoteEvent::Kind;
  if (event.kind == Kind::ready) {
    zygote.ready = true;
    zygote.failures = 0;
    zygote.threaded_packages = event.threaded_packages;
    return;
  }
  if (event.kind == Kind::lost) {
    zygote.problem = event.message;
    zygote.client.terminate();  // if it has not ended: its pidfd tells the rest
    return;
  }
  std::uint32_t epoch = 0;
  Profile* profile = profile_of(event.daemon, &epoch);
  if (profile == nullptr || profile->process(event.daemon.index).epoch != epoch) {
    return;
  }
  const std::uint32_t index = event.daemon.index;
  DaemonProcess& process = profile->process(index);
  if (event.kind == Kind::forked) {
    process.pidfd = std::move(event.pidfd);
    process.note.pid = event.pid;
    profile->pool().on_forked(index, epoch, event.pid);
    watch_daemon(*profile, index);
  } else if (event.kind == Kind::exited) {
    process.reported = true;
    process.note = {event.pid, event.wait_status, event.oom_killed};
    process.gone = process.gone || !process.watched;
    profile->note_death_if_certain(index);
  } else if (event.kind == Kind::failed && event.error == ECANCELED) {
    zygote.retired = true;  // somebody told it to stop: the order is for its successor
    profile->spawn(index, epoch);
    zygote_lost_.store(true, std::memory_order_release);
  } else if (event.kind == Kind::failed) {
    daemon_failed(*profile, index, epoch, event.message);
  }
  after_change(*profile);
  collect_finished();
}

void Host::daemon_failed(Profile& profile, std::uint32_t index, std::uint32_t epoch, const std::string& why) {
  profile.failure = why;
  dispatch::DeathNote note;
  note.wait_status = -1;
  profile.pool().on_dead(index, epoch, note, false);
}

void Host::on_zygote_exit(void* context, const net::Completion&) {
  auto* zygote = static_cast<Zygote*>(context);
  Host* host = zygote->host;
  {
    std::lock_guard<std::mutex> lock(host->mutex_);
    for (embed::ZygoteEvent& event : zygote->client.on_readable()) {
      host->handle(*zygote, event);
    }
    int status = 0;
    zygote->client.check_exit(&status);
    zygote->dead = true;
    host->reactor_->forget(zygote->socket_watch);
    zygote->failures += zygote->ready ? 0 : 1;
    // Its daemons die with it (the kernel sees to that) and nobody will report them: the pidfd is the only witness.
    for (auto& profile : host->profiles_) {
      if (!profile || profile->config().zygote_key != zygote->key) {
        continue;
      }
      if (!zygote->ready) {
        const std::string output = zygote->client.error_output();
        profile->failure = output.empty() ? zygote->problem : "their R did not start: " + output;
      }
      for (std::uint32_t i = 0; i < profile->process_count(); ++i) {
        DaemonProcess& process = profile->process(i);
        if (process.fork_server != zygote || process.reported) {
          continue;  // another one's: a retired fork server ends with its last daemon
        }
        process.reported = true;
        process.note.wait_status = -1;
        if (!process.watched) {
          host->daemon_failed(*profile, i, process.epoch, profile->failure);
        } else {
          profile->note_death_if_certain(i);
        }
      }
      host->after_change(*profile);
    }
    host->zygote_lost_.store(true, std::memory_order_release);
    host->collect_finished();
    host->wake_host_thread();
  }
  host->run_notifications();
}

void Host::watch_daemon(Profile& profile, std::uint32_t index) {
  DaemonProcess& process = profile.process(index);
  process.watched = true;
  auto* watch = new DaemonWatch{this, profile.serial, index, process.epoch};
  process.watch = reactor_->watch_pidfd(process.pidfd.get(), net::Handler(&Host::on_daemon_gone, watch));
}

void Host::on_daemon_gone(void* context, const net::Completion&) {
  const std::unique_ptr<DaemonWatch> watch(static_cast<DaemonWatch*>(context));
  Host* host = watch->host;
  {
    std::lock_guard<std::mutex> lock(host->mutex_);
    Profile* profile = host->profile_by_serial(watch->profile);
    if (profile == nullptr || profile->process(watch->index).epoch != watch->epoch) {
      return;
    }
    profile->process(watch->index).gone = true;
    profile->note_death_if_certain(watch->index);
    host->after_change(*profile);
    host->set_timer();
    host->collect_finished();
  }
  host->run_notifications();
}

}  // namespace setsuna::host
