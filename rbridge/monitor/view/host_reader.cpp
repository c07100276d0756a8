#include "rbridge/monitor/view/host_reader.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>

#include "net/unix_socket.hpp"
#include "rbridge/monitor/view/process_facts.hpp"
#include "runtime/clock.hpp"

namespace setsuna::monitor {
namespace {

constexpr char kSilent[] = "it does not answer: it is stopped, or very busy";

template <std::size_t N>
std::string text_of(const char (&from)[N]) {
  return std::string(from, ::strnlen(from, N));
}

}  // namespace

bool HostReader::connect() {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (address_.name.empty() || address_.name.size() + 1 > sizeof(to.sun_path)) {
    return false;
  }
  std::memcpy(to.sun_path + 1, address_.name.data(), address_.name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + address_.name.size());
  socket_ = runtime::UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  net::PeerCredentials peer;
  if (!socket_ || ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&to), length) != 0 ||
      net::peer_credentials(socket_.get(), peer) != 0 || peer.uid != ::geteuid()) {
    socket_.reset();
    return false;
  }
  host_.pid = peer.pid;  // of whoever listens, whatever the name says
  host_.command = process_command(peer.pid);
  return true;
}

HostReader::Got HostReader::await(std::uint64_t sequence) {
  for (;;) {
    answer_.resize(kMonitorMessageBytes);
    net::ReceivedMessage message = net::receive_message(socket_.get(), answer_, net::Blocking::kNo);
    if (message.bytes == -EAGAIN) {
      const std::uint64_t now = runtime::monotonic_ns();
      pollfd waiting{socket_.get(), POLLIN, 0};
      const std::uint64_t left_ms = now < deadline_ns_ ? (deadline_ns_ - now) / 1'000'000 + 1 : 0;
      const int ready = left_ms == 0 ? 0 : ::poll(&waiting, 1, static_cast<int>(left_ms));
      if (ready == 0 || (ready < 0 && errno == EINTR)) {
        return Got::kTimeout;
      }
      continue;
    }
    if (message.bytes == -EINTR) {
      continue;
    }
    if (message.bytes < static_cast<ssize_t>(sizeof(MonitorHead))) {
      return Got::kGone;
    }
    answer_.resize(static_cast<std::size_t>(message.bytes));
    answer_fd_ = std::move(message.fds[0]);
    MonitorHead head{};
    std::memcpy(&head, answer_.data(), sizeof(head));
    if (head.magic != kMonitorMagic) {
      return Got::kGone;
    }
    if (head.sequence == sequence) {
      return Got::kAnswer;
    }
    // What was asked before the time was up the last time.
  }
}

HostReader::Got HostReader::ask(MonitorAsk what, std::uint64_t serial) {
  const MonitorRequest request{kMonitorMagic, kMonitorVersion, what, serial, ++sequence_};
  const ssize_t sent = net::send_message(socket_.get(), std::as_bytes(std::span(&request, 1)), {}, net::Blocking::kNo);
  if (sent == -EAGAIN) {
    return Got::kTimeout;  // it has not read many questions yet
  }
  return sent < 0 ? Got::kGone : await(sequence_);
}

// The answer begins with such a structure, has the entries that it speaks of, and something was found.
template <class T>
bool HostReader::take(T* facts) const {
  if (answer_.size() < sizeof(T)) {
    return false;
  }
  std::memcpy(facts, answer_.data(), sizeof(T));
  return facts->head.found != 0;
}

template <class T>
T HostReader::entry(std::size_t facts_bytes, std::uint32_t i) const {
  T out{};
  const std::size_t at = facts_bytes + std::size_t{i} * sizeof(T);
  if (at + sizeof(T) <= answer_.size()) {
    std::memcpy(&out, answer_.data() + at, sizeof(T));
  }
  return out;
}

HostReader::Got HostReader::ask_host() {
  const Got got = ask(MonitorAsk::kHost, 0);
  if (got != Got::kAnswer) {
    return got;
  }
  MonitorHost facts{};
  if (!take(&facts) || facts.head.version != kMonitorVersion || facts.head.layout_hash != runtime::kLayoutHash) {
    host_.problem = "that session and this program are not of one version of setsuna: install the same for both";
    serials_.clear();
    return got;
  }
  host_.problem.clear();
  host_.version = text_of(facts.version);
  host_.backend = text_of(facts.backend);
  started_ns_ = facts.started_ns;
  const std::uint32_t named = std::min(facts.profiles, kMonitorProfiles);
  host_.hidden_profiles = facts.profiles - named;
  serials_.assign(facts.serials, facts.serials + named);
  return got;
}

HostReader::Got HostReader::ask_profile(Profile* profile) {
  const Got got = ask(MonitorAsk::kProfile, profile->sample.serial);
  MonitorProfile facts{};
  if (got != Got::kAnswer || !take(&facts)) {
    return got;
  }
  ProfileSample& sample = profile->sample;
  sample.name = text_of(facts.name);
  sample.url = text_of(facts.url);
  sample.dispatcher = facts.dispatcher != 0;
  sample.ephemeral = facts.ephemeral != 0;
  sample.connections = facts.connections;
  sample.awaiting = facts.awaiting;
  sample.executing = facts.executing;
  sample.completed = facts.completed;
  sample.spilled = facts.spilled;
  sample.started = facts.started;
  sample.respawns = facts.respawns;
  sample.used_bytes = facts.used_bytes;
  sample.budget_bytes = facts.budget_bytes;
  sample.resident_bytes = facts.resident_bytes;
  sample.segment_bytes = facts.segment_bytes;
  profile->records = facts.daemons;
  profile->links.clear();
  for (std::uint32_t i = 0; i < std::min(facts.head.count, kMonitorLinks); ++i) {
    const auto link = entry<MonitorLink>(sizeof(facts), i);
    DaemonSample daemon;
    daemon.remote = true;
    daemon.index = link.index;
    daemon.pid = link.pid;
    daemon.assigned = link.assigned;
    daemon.completed = link.completed;
    daemon.state = link.leaving != 0    ? DaemonSample::State::kLeaving
                   : link.in_flight > 0 ? DaemonSample::State::kBusy
                                        : DaemonSample::State::kIdle;
    profile->links.push_back(daemon);
  }
  sample.hidden_links = facts.links - static_cast<std::uint32_t>(profile->links.size());
  return got;
}

HostReader::Got HostReader::ask_latency(Profile* profile) {
  const Got got = ask(MonitorAsk::kLatency, profile->sample.serial);
  MonitorLatency facts{};
  if (got != Got::kAnswer || !take(&facts)) {
    return got;
  }
  auto histogram = std::make_shared<runtime::Histogram>();
  for (std::uint32_t i = 0; i < facts.head.count; ++i) {
    const auto bucket = entry<MonitorBucket>(sizeof(facts), i);
    if (bucket.bucket < runtime::Histogram::kBuckets) {
      histogram->record(runtime::Histogram::lowest_of(bucket.bucket), bucket.count);
    }
  }
  profile->sample.histogram = histogram;
  profile->sample.latency = summarise(*histogram);
  profile->sample.latency.max_ns = facts.max_ns;
  profile->sample.latency_sum_ns = static_cast<double>(facts.sum_ns);
  if (const std::uint64_t count = profile->sample.latency.count; count > 0) {
    profile->sample.latency.mean_ns = facts.sum_ns / count;
  }
  return got;
}

HostReader::Got HostReader::ask_segment(Profile* profile) {
  const Got got = ask(MonitorAsk::kSegment, profile->sample.serial);
  if (got == Got::kAnswer) {
    std::string error = "it gives no access to its shared memory";
    if (!answer_fd_ || !profile->segment.map(std::move(answer_fd_), &error)) {
      profile->no_segment = true;
      host_.problem = error;
    }
  }
  return got;
}

HostReader::Got HostReader::ask_all() {
  Got got = ask_host();
  if (got != Got::kAnswer) {
    return got;
  }
  std::erase_if(profiles_, [&](const auto& known) {
    return std::find(serials_.begin(), serials_.end(), known.first) == serials_.end();
  });
  for (const std::uint64_t serial : serials_) {
    Profile& profile = profiles_[serial];
    profile.sample.serial = serial;
    if (got = ask_profile(&profile); got == Got::kAnswer) {
      got = ask_latency(&profile);
    }
    if (got == Got::kAnswer && !profile.segment && !profile.no_segment) {
      got = ask_segment(&profile);
    }
    if (got != Got::kAnswer) {
      return got;
    }
  }
  return got;
}

void HostReader::look_into_segment(Profile* profile) const {
  ProfileSample& sample = profile->sample;
  sample.daemons.clear();
  if (profile->segment) {
    sample.daemons = profile->segment.daemons(profile->records);
    sample.ready = profile->segment.ready_slots();
    sample.done = profile->segment.done_slots();
  }
  for (DaemonSample& daemon : sample.daemons) {
    const ProcessFacts facts = process_facts(daemon.pid);
    if (facts.found && daemon.state != DaemonSample::State::kDead) {
      daemon.resident_bytes = facts.resident_bytes;
      daemon.cpu_seconds = facts.cpu_seconds;
    }
  }
  sample.daemons.insert(sample.daemons.end(), profile->links.begin(), profile->links.end());
}

bool HostReader::read(int timeout_ms, HostSample* out) {
  const int patience_ms = silent_ ? 0 : timeout_ms;
  deadline_ns_ = runtime::monotonic_ns() + static_cast<std::uint64_t>(patience_ms) * 1'000'000;
  // A host that owes an answer is asked nothing more until it comes.
  Got got = silent_ ? await(sequence_) : Got::kAnswer;
  if (got == Got::kAnswer) {
    deadline_ns_ = runtime::monotonic_ns() + static_cast<std::uint64_t>(timeout_ms) * 1'000'000;
    got = ask_all();
  }
  if (got == Got::kGone) {
    return false;
  }
  silent_ = got == Got::kTimeout;
  met_ = met_ || !silent_;
  const std::string problem = silent_ ? kSilent : host_.problem;
  *out = host_;
  out->problem = problem;
  out->uptime_s = started_ns_ == 0 ? 0 : static_cast<double>(runtime::monotonic_ns() - started_ns_) / 1e9;
  out->resident_bytes = process_facts(host_.pid).resident_bytes;
  for (const std::uint64_t serial : serials_) {
    const auto found = profiles_.find(serial);
    if (found != profiles_.end() && !found->second.sample.name.empty()) {
      look_into_segment(&found->second);
      out->profiles.push_back(found->second.sample);
    }
  }
  return true;
}

}  // namespace setsuna::monitor
