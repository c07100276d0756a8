#include "host.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <span>
#include <stdexcept>
#include <thread>

#include "host_forks.hpp"
#include "net/make_reactor.hpp"
#include "net/signals.hpp"
#include "net/unix_socket.hpp"
#include "net/url.hpp"
#include "rbridge/embed/build_id.hpp"
#include "runtime/clock.hpp"
#include "runtime/futex.hpp"
#include "runtime/pidfd.hpp"

namespace setsuna::host {
namespace {

Host* the_host = nullptr;
bool in_forked_child = false;

// Fork servers are shared by profiles: the wire's epoch also says which profile.
constexpr std::uint32_t wire_epoch(std::uint32_t profile, std::uint32_t epoch) { return (profile << 16) | epoch; }

constexpr std::uint64_t kListenAgainNs = 1'000'000'000;
constexpr std::uint64_t kDoorClosesNs = 1'000'000;
constexpr int kZygoteFailuresMax = 2;

}  // namespace

bool Host::forked() { return in_forked_child; }

Host* Host::existing() { return the_host; }

Host& Host::get() {
  if (the_host == nullptr) {
    auto made = std::unique_ptr<Host>(new Host());
    made->start();
    the_host = made.release();  // never destroyed: the reactor thread uses it until the process ends
    ::pthread_atfork(&Host::atfork_prepare, &Host::atfork_parent, &Host::atfork_child);
    HostForks::install();
  }
  return *the_host;
}

// The child must not find the lists that it walks half-changed by the reactor. R code forks, with no lock of ours held.
void Host::atfork_prepare() {
  if (!in_forked_child) {
    the_host->mutex_.lock();
  }
}

void Host::atfork_parent() {
  if (!in_forked_child) {
    the_host->mutex_.unlock();
  }
}

void Host::atfork_child() {
  if (!in_forked_child && the_host != nullptr) {
    the_host->mutex_.unlock();
  }
  in_forked_child = true;
  if (the_host != nullptr) {
    the_host->abandon_in_child();
  }
}

void Host::abandon_in_child() {
  reactor_->abandon_in_child();
  for (auto& zygote : zygotes_) {
    zygote->client.abandon();
  }
}

// --- Reactor thread ----------------------------------------------------------------------------------------

namespace {

struct Started {
  std::mutex mutex;
  std::condition_variable ready;
  bool done = false;
  std::string error;
};
Started* started = nullptr;
SessionKnobs session_knobs;
std::string reactor_asked_by;

// The environment goes before what was set.
void choose_reactor() {
  std::string error;
  net::ReactorChoice choice = net::ReactorChoice::kAutomatic;
  if (!net::reactor_choice_from_environment(choice, error)) {
    throw std::runtime_error(error);
  }
  const bool by_environment = choice != net::ReactorChoice::kAutomatic;
  reactor_asked_by = by_environment ? "SETSUNA_REACTOR" : "the configuration";
  session_knobs.reactor = by_environment ? choice : session_knobs.reactor;
}

}  // namespace

const SessionKnobs& Host::session() { return session_knobs; }

void Host::set_session(const SessionKnobs& knobs) {
  SETSUNA_ASSERT(the_host == nullptr);
  session_knobs = knobs;
}

void Host::start() {
  std::string error;
  if (!page_.create(&error)) {
    throw std::runtime_error("the host's shared page cannot be made: " + error);
  }
  choose_reactor();
  bool monitored = false;
  if (!MonitorDoor::wanted(&monitored, &error)) {
    throw std::runtime_error(error);
  }
  if (monitored) {
    monitor_ = std::make_unique<MonitorDoor>(*this);
  }
  started_ns_ = runtime::monotonic_ns();
  own_pidfd_ = runtime::pidfd_open(::getpid());
  Started state;
  started = &state;
  {
    net::SignalsBlocked blocked;
    std::thread(&Host::reactor_main, this).detach();
  }
  std::unique_lock<std::mutex> lock(state.mutex);
  state.ready.wait(lock, [&] { return state.done; });
  if (!state.error.empty()) {
    throw std::runtime_error(state.error);
  }
}

void Host::reactor_main(Host* host) {
  ::pthread_setname_np(::pthread_self(), "setsuna-reactor");
  net::MadeReactor made = net::make_reactor(session_knobs.reactor, session_knobs.ring, reactor_asked_by);
  host->reactor_ = std::move(made.reactor);
  host->backend_ = made.backend;
  const bool failed = host->reactor_ == nullptr;
  if (!failed) {
    host->reactor_->on_wake(net::Handler::to<&Host::on_wake>(host));
    if (host->monitor_ && host->monitor_->listen()) {
      host->monitor_->start(*host->reactor_);
    }
  }
  {
    std::lock_guard<std::mutex> lock(started->mutex);
    started->error = made.error;
    started->done = true;
    started->ready.notify_one();
  }
  if (!failed) {
    host->reactor_->run();
  }
}

void Host::wake_host_thread() {
  page_.page()->futex.fetch_add(1, std::memory_order_release);  // ORDERING host/sleep
  if (waiting_) {
    runtime::SharedFutex::wake(&page_.page()->futex, 1);
  }
}

void Host::on_wake(const net::Completion&) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    watch_new();
    for (auto& profile : profiles_) {
      if (profile) {
        feed_links(*profile);
      }
    }
    collect_finished();
    set_timer();
  }
  run_notifications();  // of a profile that was closed
}

void Host::watch_new() {
  forget_dead_zygotes();
  for (auto& zygote : zygotes_) {
    if (!zygote->watched && !zygote->dead) {
      zygote->watched = true;
      zygote->socket_watch =
          reactor_->watch_readable(zygote->client.socket_fd(), net::Handler(&Host::on_zygote_message, zygote.get()));
      reactor_->watch_pidfd(zygote->client.pidfd(), net::Handler(&Host::on_zygote_exit, zygote.get()));
    }
    if (!zygote->dead && zygote->client.wants_write()) {
      zygote->client.flush();
    }
  }
  for (auto& profile : profiles_) {
    if (profile && !profile->watched && !profile->pool().closed()) {
      profile->watched = true;
      profile->doorbell_watch =
          reactor_->watch_readable(profile->doorbell().fd(), net::Handler(&Host::on_doorbell, profile.get()));
    }
    if (profile && !profile->pool().closed()) {
      tend_local_listeners(*profile);
      tend_doors(*profile);
    }
  }
}

// Of each key in use the last one is kept: it knows how to start the next.
void Host::forget_dead_zygotes() {
  for (std::size_t i = 0; i < zygotes_.size();) {
    const bool replaced = std::any_of(zygotes_.begin() + static_cast<std::ptrdiff_t>(i) + 1, zygotes_.end(),
                                      [&](const auto& later) { return later->key == zygotes_[i]->key; });
    if (zygotes_[i]->dead && (replaced || !key_in_use(zygotes_[i]->key))) {
      zygotes_.erase(zygotes_.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
}

void Host::set_timer() {
  std::uint64_t next = 0;
  for (auto& profile : profiles_) {
    const std::uint64_t deadline = profile ? profile->next_deadline_ns() : 0;
    next = deadline != 0 && (next == 0 || deadline < next) ? deadline : next;
  }
  if (next == timer_deadline_ns_) {
    return;
  }
  if (timer_) {
    reactor_->forget(timer_);
    timer_ = net::Token();
  }
  timer_deadline_ns_ = next;
  if (next != 0) {
    timer_ = reactor_->timer(next, net::Handler::to<&Host::on_timer>(this));
  }
}

void Host::on_timer(const net::Completion&) {
  std::unique_lock<std::mutex> lock(mutex_);
  timer_ = net::Token();
  timer_deadline_ns_ = 0;
  const std::uint64_t now = runtime::monotonic_ns();
  for (auto& profile : profiles_) {
    if (profile) {
      profile->on_time(now);
      after_change(*profile);
    }
  }
  set_timer();
  lock.unlock();
  run_notifications();
}

void Host::on_doorbell(void* context, const net::Completion&) {
  auto* profile = static_cast<Profile*>(context);
  Host* host = the_host;
  profile->doorbell().drain();
  {
    std::lock_guard<std::mutex> lock(host->mutex_);
    profile->progress();
    host->after_change(*profile);
    host->set_timer();
  }
  host->run_notifications();
}

// Under the mutex, on the reactor thread.
void Host::after_change(Profile& profile) {
  profile.changed = true;
  for (std::uint32_t task : profile.pool().take_notifications()) {
    notifications_.emplace_back(profile.id(), task);
  }
  if (profile.pool().notify_pending() > 0 && !waiting_) {
    profile.rest_gate();
  }
  feed_links(profile);
  flush_spawns(profile);
  wake_host_thread();
}

// What has been sent may make room for more.
void Host::feed_links(Profile& profile) {
  do {
    if (profile.pool().links_hungry()) {
      profile.pool().feed_links();
    }
  } while (profile.links.flush(profile) && profile.pool().links_hungry());
}

void Host::links_changed(Profile& profile) {
  after_change(profile);
  set_timer();
}

void Host::wake_for_finished(Profile& profile) {
  if (profile.pool().closed()) {
    reactor_->wake();
  }
}

void Host::run_notifications() {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> taken;
  NotifyHook hook = nullptr;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    taken.swap(notifications_);
    hook = notify_;
  }
  for (const auto& [profile, task] : taken) {
    if (hook != nullptr) {
      hook(profile, task);
    }
  }
}

void Host::collect_finished() {
  for (auto& profile : profiles_) {
    if (!profile || !profile->pool().closed()) {
      continue;
    }
    for (LocalListener& listener : profile->local_listeners) {
      close_local_listener(listener);
    }
    profile->local_listeners.clear();
    if (!profile->doors.empty()) {
      profile->doors.clear();
      // Their ports are free when the reactor has been round.
      ++closing_listeners_;
      reactor_->timer(runtime::monotonic_ns() + kDoorClosesNs, net::Handler::to<&Host::on_listener_closed>(this));
    }
    if (!profile->links_ended) {
      profile->links_ended = true;
      profile->links.end(profile->is_final());
    }
    if (profile->watched && profile->pool().alive() == 0) {
      reactor_->forget(profile->doorbell_watch);
      profile->watched = false;
    }
    if (profile->finished()) {
      profile.reset();
    }
  }
}

void Host::on_listener_closed(const net::Completion&) {
  std::lock_guard<std::mutex> lock(mutex_);
  --closing_listeners_;
  wake_host_thread();
}

bool Host::listeners_closing() const {
  return closing_listeners_ > 0 || std::any_of(profiles_.begin(), profiles_.end(), [](const auto& profile) {
           return profile && profile->pool().closed() && (!profile->local_listeners.empty() || !profile->doors.empty());
         });
}

// --- Fork servers ------------------------------------------------------------------------------------------

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
  Zygote* zygote = zygote_for(profile.config().zygote_key);
  if (zygote == nullptr) {
    if (profile.spawns_waiting()) {
      zygote_lost_.store(true, std::memory_order_release);
    }
    return;  // they wait in the profile for a new fork server
  }
  const std::vector<SpawnRequest> spawns = profile.take_spawns();
  if (spawns.empty()) {
    return;
  }
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

// --- Daemons that dial in ----------------------------------------------------------------------------------

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
  Host* host = the_host;
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
  Host* host = the_host;
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

// --- Profiles ----------------------------------------------------------------------------------------------

Profile& Host::add_profile(ProfileConfig config) {
  std::uint32_t id = 0;
  while (id < profiles_.size() && profiles_[id]) {
    ++id;
  }
  if (id > 0xFFFF) {
    throw std::runtime_error("too many profiles are alive: drop results of earlier ones");
  }
  auto made = std::make_unique<Profile>(id, std::move(config), page_);
  if (id == profiles_.size()) {
    profiles_.emplace_back();
  }
  made->serial = ++last_serial_;
  if (monitor_) {
    made->measure_latency();
  }
  profiles_[id] = std::move(made);
  reactor_->wake();
  return *profiles_[id];
}

std::string Host::monitor_state() const {
  if (!monitor_) {
    return "off: SETSUNA_MONITOR";
  }
  return monitor_->problem().empty() ? "on" : "off: " + monitor_->problem();
}

Profile* Host::profile_by_serial(std::uint64_t serial) {
  for (auto& profile : profiles_) {
    if (profile && profile->serial == serial) {
      return profile.get();
    }
  }
  return nullptr;
}

void Host::close_profile(Profile& profile, bool kill_busy) {
  if (profile.pool().closed()) {
    return;
  }
  profile.pool().reset();
  for (const SpawnRequest& never : profile.take_spawns()) {
    profile.pool().on_dead(never.index, never.epoch, {}, true);  // no fork server was there to be asked
  }
  for (std::uint32_t task : profile.pool().take_notifications()) {
    notifications_.emplace_back(profile.id(), task);
  }
  if (kill_busy) {
    profile.kill_busy_daemons();
  }
  if (profile.tracing() != nullptr) {
    profile.tracing()->close();
  }
  reactor_->wake();
}

void Host::settle(Profile& profile) {
  flush_spawns(profile);
  if (profile.pool().has_notifications()) {
    profile.doorbell().signal();  // the R thread harvested what a promise waits for: the reactor tells it
  }
  const std::uint64_t deadline = profile.next_deadline_ns();
  const bool for_links = profile.links.waiting() || profile.pool().links_hungry();
  const bool earlier = deadline != 0 && (timer_deadline_ns_ == 0 || deadline < timer_deadline_ns_);
  if (for_links || earlier || (profile.pool().closed() && profile.pool().handles() == 0)) {
    reactor_->wake();
  }
}

}  // namespace setsuna::host
