// The host side of this R process: its profiles, its fork servers, and the reactor thread that waits for the kernel on
// their behalf. One object a process, made at the first use. No R in here.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "knobs.hpp"
#include "listen.hpp"
#include "monitor_door.hpp"
#include "net/reactor.hpp"
#include "profile.hpp"
#include "rbridge/embed/join_wire.hpp"
#include "rbridge/embed/zygote_client.hpp"
#include "runtime/host_page.hpp"

namespace setsuna::host {

// Runs on the reactor thread, under no lock, with the tasks that have resolved and were marked with set_notify().
using NotifyHook = void (*)(std::uint32_t profile, std::uint32_t task);

class Host {
 public:
  // The process's host; made (with its reactor thread) at the first call. R thread. Throws std::runtime_error.
  static Host& get();
  // Null if there is none yet.
  static Host* existing();
  // In a child that user code forked from the host: nothing here may be used.
  static bool forked();

  // How its reactor is, or will be, set up. To be set before the first get(). R thread.
  static const SessionKnobs& session();
  static void set_session(const SessionKnobs& knobs);

  std::mutex& mutex() { return mutex_; }
  runtime::HostPage<std::atomic>* page() { return page_.page(); }
  const std::string& backend() const { return backend_; }
  std::uint64_t started_ns() const { return started_ns_; }
  // "on", or why nobody can look at this host.
  std::string monitor_state() const;

  // --- under the mutex ---
  Profile* profile(std::uint32_t id) { return id < profiles_.size() ? profiles_[id].get() : nullptr; }
  Profile* profile_by_serial(std::uint64_t serial);
  std::uint32_t profile_count() const { return static_cast<std::uint32_t>(profiles_.size()); }
  Profile& add_profile(ProfileConfig config);
  // Tasks resolve to "Object closed", daemons leave. The object goes when nothing refers to it any more.
  void close_profile(Profile& profile, bool kill_busy);
  // After anything that may have changed what the reactor must do: new processes, timers, watches.
  void settle(Profile& profile);
  void set_notify_hook(NotifyHook hook) { notify_ = hook; }
  // The seat's listener is replaced by the one in `opened`; who sits there is ended.
  void move_seat(Profile& profile, std::uint32_t seat, Opened opened);
  // Reactor thread: the pool was told of something on a link.
  void links_changed(Profile& profile);
  // Reactor thread: it may be the last that a closed profile waited for.
  void wake_for_finished(Profile& profile);
  // A closed profile's URL is not free yet; the R thread is woken when it is.
  bool listeners_closing() const;
  // The R thread says that it is about to sleep on page()->futex (and that it is awake again).
  void set_waiting(bool waiting) { waiting_ = waiting; }

  // --- reactor thread, without the mutex ---
  void run_notifications();

  // --- R thread, without the mutex ---
  // Starts the fork server for this key unless it runs. Throws.
  void ensure_zygote(const std::string& key, const embed::ZygoteSpawn& spawn);
  // Fork servers that have died and are needed again: restarts them. R thread.
  void restart_lost_zygotes();
  bool zygote_lost() const { return zygote_lost_.load(std::memory_order_acquire); }
  // Preloaded packages after which the fork server of this key had threads (so that its daemons are started by exec), or "".
  std::string threaded_packages(const std::string& key);
  // Fork servers end, each with its last daemon; the next daemon gets a new one.
  void retire_zygotes();

 private:
  struct Zygote {
    std::string key;
    embed::ZygoteSpawn spawn;
    embed::ZygoteClient client;
    net::Token socket_watch;
    bool watched = false;
    bool ready = false;
    std::string threaded_packages;
    bool dead = false;
    bool retired = false;  // forks no more
    int failures = 0;      // ended before it was ready, in a row
    std::string problem;   // why it is of no use although it runs
    Host* host = nullptr;
  };
  struct DaemonWatch {
    Host* host;
    std::uint64_t profile;  // serial: a process may outlive its profile, and another has the number then
    std::uint32_t index;
    std::uint32_t epoch;
  };

  // Somebody who has connected to a profile's URL and not spoken yet.
  struct Guest {
    Host* host;
    std::uint64_t profile;  // serial
    std::uint32_t seat;
    int fd;
  };

  Host() = default;
  void start();
  static void reactor_main(Host* host);

  // reactor thread
  void on_wake(const net::Completion&);
  void on_timer(const net::Completion&);
  static void on_doorbell(void* profile, const net::Completion&);
  static void on_zygote_message(void* zygote, const net::Completion&);
  static void on_zygote_exit(void* zygote, const net::Completion&);
  static void on_daemon_gone(void* watch, const net::Completion&);
  void on_listener_closed(const net::Completion&);
  void tend_local_listeners(Profile& profile);
  void tend_doors(Profile& profile);
  void open_local_listener(const Profile& profile, LocalListener& listener);
  void close_local_listener(LocalListener& listener);
  static void on_dialled(void* door, const net::Completion&);
  static void on_listen_again(void* door, const net::Completion&);
  static void on_join_request(void* guest, const net::Completion&);
  embed::JoinReply answer_join(Profile& profile, const embed::JoinRequest& request, const Guest& guest,
                               std::uint32_t* index);
  void handle(Zygote& zygote, embed::ZygoteEvent& event);
  void watch_new();
  void forget_dead_zygotes();
  void watch_daemon(Profile& profile, std::uint32_t index);
  void set_timer();
  void collect_finished();
  void after_change(Profile& profile);
  void feed_links(Profile& profile);
  void send_at_once(Profile& profile);
  void wake_host_thread();

  void flush_spawns(Profile& profile);
  void order_forks(Zygote& zygote, Profile& profile, const std::vector<embed::DaemonId>& ids, const DaemonStart* start);
  Zygote* zygote_for(const std::string& key);
  bool key_in_use(const std::string& key) const;
  bool fail_spawns(const std::string& key, const std::string& why);
  Profile* profile_of(embed::DaemonId id, std::uint32_t* epoch);
  void daemon_failed(Profile& profile, std::uint32_t index, std::uint32_t epoch, const std::string& why);
  void abandon_in_child();
  static void atfork_prepare();
  static void atfork_parent();
  static void atfork_child();

  std::mutex mutex_;
  runtime::HostPageMap page_;
  runtime::UniqueFd own_pidfd_;  // handed to guests, who must notice our end
  std::unique_ptr<net::Reactor> reactor_;
  std::unique_ptr<MonitorDoor> monitor_;  // null: not wanted
  std::string backend_;
  std::vector<std::unique_ptr<Profile>> profiles_;
  std::vector<std::unique_ptr<Zygote>> zygotes_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> notifications_;  // profile, task
  NotifyHook notify_ = nullptr;
  net::Token timer_;
  std::uint64_t timer_deadline_ns_ = 0;
  std::uint64_t last_serial_ = 0;
  std::uint64_t started_ns_ = 0;
  std::uint32_t closing_listeners_ = 0;
  std::atomic<bool> zygote_lost_{false};
  bool waiting_ = false;
};

}  // namespace setsuna::host
