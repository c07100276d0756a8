#include "host.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <stdexcept>
#include <thread>

#include "host_forks.hpp"
#include "net/make_reactor.hpp"
#include "net/signals.hpp"
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

// A task that a link waits for. If there is more to send, the reactor sends it together.
void Host::send_at_once(Profile& profile) {
  if (!profile.links.waiting() && profile.pool().one_for_idle_link()) {
    profile.pool().feed_links();
    profile.links.send_now(profile);
  }
}

void Host::settle(Profile& profile) {
  flush_spawns(profile);
  if (profile.pool().has_notifications()) {
    profile.doorbell().signal();  // the R thread harvested what a promise waits for: the reactor tells it
  }
  send_at_once(profile);
  const std::uint64_t deadline = profile.next_deadline_ns();
  const bool for_links = profile.links.waiting() || profile.pool().links_hungry();
  const bool earlier = deadline != 0 && (timer_deadline_ns_ == 0 || deadline < timer_deadline_ns_);
  if (for_links || earlier || (profile.pool().closed() && profile.pool().handles() == 0)) {
    reactor_->wake();
  }
}

}  // namespace setsuna::host
