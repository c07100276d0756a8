#include "link_host.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "fake_host.hpp"
#include "net/make_reactor.hpp"
#include "rbridge/embed/link_greeting.hpp"
#include "runtime/pidfd.hpp"

namespace setsuna::embed::test {
namespace {

std::map<std::string, std::string>& encodings() {
  static std::map<std::string, std::string> all;
  return all;
}

std::string package_library() { return installed_package().substr(0, installed_package().rfind('/')); }

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

void run_r(const std::string& script) {
  const std::string command = "Rscript --vanilla '" + script + "'";
  if (std::system(command.c_str()) != 0) {
    throw std::runtime_error("failed: " + command);
  }
}

}  // namespace

void encode_all(const std::vector<std::string>& codes) {
  const ScopedDirectory directory;
  std::string script = "loadNamespace('setsuna', lib.loc = '" + package_library() + "')\n";
  for (std::size_t i = 0; i < codes.size(); ++i) {
    script += "writeBin(.Call(setsuna:::C_codec_encode, {" + codes[i] + "}, NULL), '" + directory.path() + "/" +
              std::to_string(i) + "')\n";
  }
  run_r(directory.write("script.R", "options(keep.source = FALSE)\n" + script));
  for (std::size_t i = 0; i < codes.size(); ++i) {
    encodings()[codes[i]] = directory.read(std::to_string(i));
  }
}

const std::string& encoded(const std::string& code) {
  if (encodings().count(code) == 0) {
    encode_all({code});
  }
  return encodings().at(code);
}

// --- Peer --------------------------------------------------------------------------------------------------

void Peer::send(dispatch::LinkMessage type, std::uint64_t id, std::span<const std::byte> head,
                const std::string& body) {
  const auto lane = type >= dispatch::LinkMessage::kCancel ? net::Lane::kControl : net::Lane::kData;
  connection_->send(static_cast<std::uint16_t>(type), lane, id, head, bytes_of(body), 0);
}

void Peer::welcome(const std::string& hooks) {
  dispatch::LinkWelcome head;
  const std::int32_t stream[6] = {407, 1, 2, 3, 4, 5};
  std::memcpy(head.stream, stream, sizeof(stream));
  head.instance = 1;
  send(dispatch::LinkMessage::kWelcome, 0, std::as_bytes(std::span(&head, 1)), hooks);
}

void Peer::task(std::uint64_t id, const std::string& code, runtime::TaskKind kind, std::uint64_t key) {
  dispatch::LinkTask head;
  head.kind = kind;
  head.const_key = key;
  send(dispatch::LinkMessage::kTask, id, std::as_bytes(std::span(&head, 1)), encoded(code));
}

void Peer::on_message(const net::MessageHeader& header, std::span<const std::byte> head,
                      std::span<const std::byte> body) {
  switch (static_cast<dispatch::LinkMessage>(header.type)) {
    case dispatch::LinkMessage::kResult: {
      dispatch::LinkResult said;
      std::memcpy(&said, head.data(), sizeof(said));
      results[header.id] = {said.status, {reinterpret_cast<const char*>(body.data()), body.size()}};
      order.push_back(header.id);
      break;
    }
    case dispatch::LinkMessage::kRetracted: retracted.push_back(header.id); break;
    case dispatch::LinkMessage::kLeaving: {
      dispatch::LinkLeaving said;
      std::memcpy(&said, head.data(), sizeof(said));
      leaving = said.reason;
      break;
    }
    default: connection_->close("it sent a message that a daemon does not send");
  }
}

// --- DaemonProcess -----------------------------------------------------------------------------------------

DaemonProcess::~DaemonProcess() {
  reactor_->forget(exit_watch_);
  reactor_->forget(output_watch_);
  if (!status) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

void DaemonProcess::on_output(const net::Completion&) {
  char part[4096];
  ssize_t got = 0;
  while ((got = ::read(pipe_.get(), part, sizeof part)) > 0) {
    output.append(part, static_cast<std::size_t>(got));
  }
  output_ended = output_ended || got == 0;
}

void DaemonProcess::on_exit(const net::Completion&) {
  int value = 0;
  if (::waitpid(pid, &value, 0) == pid) {
    status = value;
  }
}

// --- LinkHost ----------------------------------------------------------------------------------------------

LinkHost::LinkHost(const std::string& url, net::TlsContextPtr tls)
    : url_(net::parse_url(url).url.value()), tls_(std::move(tls)) {
  net::MadeReactor made = net::make_reactor(net::ReactorChoice::kAutomatic);
  reactor_ = std::move(made.reactor);
  listen();
}

LinkHost::~LinkHost() {
  listener_.reset();
  peers_.clear();
  reactor_->close_all();
}

void LinkHost::listen() {
  const net::Url wanted[] = {url_};
  net::BindResult bound = net::bind_urls(wanted);
  if (!bound) {
    throw std::runtime_error(bound.message);
  }
  url_ = bound.urls[0];
  const dispatch::LinkGreeting greeting = own_greeting();
  const auto bytes = std::as_bytes(std::span(&greeting, 1));
  net::HandshakeConfig config{std::string(kToken), {bytes.begin(), bytes.end()}};
  listener_ = std::make_unique<net::Listener>(*reactor_, std::move(bound), std::move(config),
                                              static_cast<net::ListenerEvents&>(*this), tls_);
}

// The port is free once the reactor has closed it.
void LinkHost::stop_listening() {
  const std::size_t before = reactor_->pending();
  listener_.reset();
  wait_for([&] { return reactor_->pending() < before; });
}

net::ConnectionSink* LinkHost::on_peer(std::unique_ptr<net::Connection>& connection, std::size_t, std::string*) {
  peers_.push_back(std::make_unique<Peer>(std::move(connection)));
  return peers_.back().get();
}

void LinkHost::wait_for(const std::function<bool()>& done) {
  while (!done()) {
    reactor_->run_once();
  }
}

Peer& LinkHost::next_peer() {
  wait_for([&] { return peers_.size() > next_ && peers_[next_]->open; });
  peers_[next_]->welcome();
  return *peers_[next_++];
}

const LinkedResult& LinkHost::result(Peer& peer, std::uint64_t id) {
  wait_for([&] { return peer.has(id) || peer.closed; });
  if (!peer.has(id)) {
    throw std::runtime_error("no result: " + *peer.closed);
  }
  return peer.results.at(id);
}

std::unique_ptr<DaemonProcess> LinkHost::start_daemon(const std::string& arguments) {
  return start({"Rscript", "--vanilla", "-e",
                "quit('no', setsuna::daemon('" + url() + "', token = '" + kToken + "'" +
                    (arguments.empty() ? "" : ", " + arguments) + "))"});
}

std::unique_ptr<DaemonProcess> LinkHost::start(const std::vector<std::string>& command, const std::string& input) {
  auto made = std::make_unique<DaemonProcess>();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    throw std::runtime_error("pipe2 failed");
  }
  const int in = ::memfd_create("input", MFD_CLOEXEC);
  if (::pwrite(in, input.data(), input.size(), 0) < 0) {
    throw std::runtime_error("pwrite failed");
  }
  const std::string library = package_library();
  std::vector<char*> words;
  for (const std::string& word : command) {
    words.push_back(const_cast<char*>(word.c_str()));
  }
  words.push_back(nullptr);
  made->pid = ::fork();
  if (made->pid == 0) {
    ::setenv("R_LIBS", library.c_str(), 1);
    ::dup2(in, 0);
    ::dup2(ends[1], 1);
    ::dup2(ends[1], 2);
    ::execvp(words[0], words.data());
    ::_exit(127);
  }
  ::close(in);
  ::close(ends[1]);
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  made->pipe_ = runtime::UniqueFd(ends[0]);
  made->pidfd_ = runtime::pidfd_open(made->pid);
  made->reactor_ = reactor_.get();
  made->output_watch_ =
      reactor_->watch_readable(made->pipe_.get(), net::Handler::to<&DaemonProcess::on_output>(made.get()));
  made->exit_watch_ = reactor_->watch_pidfd(made->pidfd_.get(), net::Handler::to<&DaemonProcess::on_exit>(made.get()));
  return made;
}

}  // namespace setsuna::embed::test
