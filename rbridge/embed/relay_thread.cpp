#include "rbridge/embed/relay_thread.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include "net/signals.hpp"
#include "rbridge/embed/evaluator.hpp"
#include "rbridge/embed/link_greeting.hpp"
#include "rbridge/embed/process_scan.hpp"
#include "runtime/clock.hpp"
#include "runtime/futex.hpp"

namespace setsuna::embed {
namespace {

// Of all relay threads: children that tasks fork must not keep a connection open, nor write to it.
struct OfThread {
  net::Reactor* reactor;
  DirectExit* exit;
};
std::mutex reactors_mutex;
std::vector<OfThread>& reactors() {
  static auto* all = new std::vector<OfThread>;  // never destroyed: a thread may use it while the process exits
  return *all;
}

void before_fork() { reactors_mutex.lock(); }
void after_fork_in_parent() { reactors_mutex.unlock(); }
void after_fork_in_child() {
  reactors_mutex.unlock();
  for (const OfThread& each : reactors()) {
    each.reactor->abandon_in_child();
    each.exit->abandon_in_child();
  }
  reactors().clear();
}

net::Url parse(const std::string& text) {
  net::ParsedUrl parsed = net::parse_url(text);
  if (!parsed.url) {
    throw std::runtime_error(parsed.error);
  }
  return *parsed.url;
}

net::TlsContextPtr tls_for(const net::Url& url, const std::string& trusted) {
  std::string error;
  net::TlsContextPtr made = url.is_tls() ? net::make_tls_client(trusted, &error) : nullptr;
  if (!error.empty()) {
    throw std::runtime_error(error);
  }
  return made;
}

net::ReactorChoice chosen_reactor() {
  net::ReactorChoice choice = net::ReactorChoice::kAutomatic;
  std::string error;
  if (!net::reactor_choice_from_environment(choice, error)) {
    throw std::runtime_error(error);
  }
  return choice;
}

}  // namespace

RelayThread::RelayThread(DialRequest request)
    : request_(std::move(request)),
      url_(parse(request_.url)),
      tls_(tls_for(url_, request_.trusted)),
      reactor_choice_(chosen_reactor()),
      main_thread_(::pthread_self()) {}

std::shared_ptr<RelayThread> RelayThread::start(DialRequest request) {
  static const int installed = ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  static_cast<void>(installed);
  const std::shared_ptr<RelayThread> made(new RelayThread(std::move(request)));
  const net::SignalsBlocked blocked;
  std::thread(&RelayThread::main, made).detach();
  return made;
}

void RelayThread::change_state(State state) noexcept {
  // Release: R's thread reads what belongs to the state after it has acquired it.
  state_.store(static_cast<std::uint32_t>(state), std::memory_order_release);
  // Release: who has seen this value sees the state, and does not sleep.
  changes_.fetch_add(1, std::memory_order_release);
  runtime::SharedFutex::wake(&changes_, 1);
}

void RelayThread::give_up() noexcept {
  const std::lock_guard<std::mutex> lock(reactors_mutex);  // the reactor neither comes nor goes meanwhile
  given_up_.store(true, std::memory_order_relaxed);
  if (reactor_ != nullptr) {
    reactor_->wake();
  }
}

// --- The thread --------------------------------------------------------------------------------------------

void RelayThread::main(std::shared_ptr<RelayThread> self) {
  ::pthread_setname_np(::pthread_self(), "setsuna-relay");
  self->run();
  self->change_state(State::kOver);
}

void RelayThread::run() {
  net::ResolveResult found = net::resolve(url_);
  net::MadeReactor made = net::make_reactor(reactor_choice_);
  if (made.reactor == nullptr) {
    failure_ = made.error;
    return;
  }
  made.reactor->on_wake(net::Handler::to<&RelayThread::on_wake>(this));
  {
    const std::lock_guard<std::mutex> lock(reactors_mutex);
    reactor_ = std::move(made.reactor);
    reactors().push_back({reactor_.get(), &exit_});
    if (given_up_.load(std::memory_order_relaxed)) {
      reactor_->wake();
    }
  }
  const dispatch::LinkGreeting greeting = own_greeting();
  const auto bytes = std::as_bytes(std::span(&greeting, 1));
  net::HandshakeConfig config{request_.token, {bytes.begin(), bytes.end()}};
  dialler_ = std::make_unique<net::Dialler>(*reactor_, url_, std::move(found), std::move(config),
                                            static_cast<net::DiallerEvents&>(*this), tls_);
  dialler_->start();
  reactor_->run();

  reactor_->forget(doorbell_watch_);
  reactor_->forget(grace_);
  exit_.close();
  connection_.reset();  // lets go of results that were still to be sent, so the relay goes after it
  dialler_.reset();
  relay_.reset();
  reactor_->close_all();
  const std::lock_guard<std::mutex> lock(reactors_mutex);
  std::erase_if(reactors(), [this](const OfThread& each) { return each.reactor == reactor_.get(); });
  reactor_.reset();
}

void RelayThread::on_wake(const net::Completion&) {
  if (given_up_.load(std::memory_order_relaxed)) {
    failure_ = "daemon() was interrupted";
    reactor_->stop();
  } else if (connection_ != nullptr) {
    connection_->resume();
  }
}

void RelayThread::on_doorbell(const net::Completion&) { relay_->on_doorbell(); }

// --- The host ----------------------------------------------------------------------------------------------

net::ConnectionSink* RelayThread::on_host(std::unique_ptr<net::Connection>& connection, std::string* refusal) {
  own_refusal_ = true;  // unless it gets to the end
  *refusal = compare_greeting(connection->peer_greeting(), "the host");
  if (!refusal->empty()) {
    return nullptr;
  }
  segment_ = PrivateSegment::create(request_.data_bytes, refusal);
  if (segment_ == nullptr) {
    return nullptr;
  }
  relay_ = std::make_unique<Relay>(*segment_, static_cast<RelayProcess&>(*this), request_.relay, &exit_);
  connection_ = std::move(connection);
  exit_.open(connection_.get(), reactor_.get());
  relay_->set_connection(connection_.get());
  doorbell_watch_ =
      reactor_->watch_readable(segment_->doorbell().fd(), net::Handler::to<&RelayThread::on_doorbell>(this));
  own_refusal_ = false;
  return relay_.get();
}

void RelayThread::on_failed(const std::string& sentence, bool refused) {
  failure_ = sentence;
  retry_ = !refused && !own_refusal_;
  reactor_->stop();
}

void RelayThread::on_welcome(const dispatch::LinkWelcome& welcome, std::span<const std::byte> hooks) {
  welcome_ = welcome;
  hooks_.assign(hooks.begin(), hooks.end());
  segment_->set_encoding(welcome.encoding);
  joined_ = true;
  change_state(State::kJoined);
}

// As Ctrl-C in a terminal: what the task has started with system() or mclapply() gets it, too.
void RelayThread::interrupt_task() {
  for (const pid_t pid : list_descendants()) {
    if (const auto stat = read_process_stat(pid); stat && stat->group == ::getpgrp()) {
      ::kill(pid, SIGINT);
    }
  }
  ::pthread_kill(main_thread_, cancel_signal());
}

void RelayThread::end_now() {
  for (const pid_t pid : list_descendants()) {
    ::kill(pid, SIGKILL);
  }
  ::kill(::getpid(), SIGKILL);
}

void RelayThread::on_end(const std::string& reason, RelayEnd how) {
  if (!joined_) {
    failure_ =
        "the host at " + net::quote_for_message(request_.url) + " ended the connection before its welcome: " + reason;
    retry_ = how == RelayEnd::kLost;
  } else if (how == RelayEnd::kLost && request_.signal_at_end > 0) {
    ::pthread_kill(main_thread_, request_.signal_at_end);
  }
  ended_ = true;
  const bool interrupted = joined_ && how == RelayEnd::kLost && request_.relay.interrupt_at_end;
  if (interrupted && segment_->daemon().current.load(std::memory_order_acquire) != 0) {
    grace_ = reactor_->timer(runtime::monotonic_ns() + kGraceNs, net::Handler::to<&RelayThread::on_grace_over>(this));
  } else {
    reactor_->stop();
  }
}

// Code that R cannot interrupt must not run on for a host that has gone, perhaps for hours.
void RelayThread::on_grace_over(const net::Completion& completion) {
  if (completion.result == 0 && segment_->daemon().current.load(std::memory_order_acquire) != 0) {
    end_now();
  }
  reactor_->stop();
}

void RelayThread::on_left() {
  if (ended_) {
    reactor_->stop();
  }
}

}  // namespace setsuna::embed
