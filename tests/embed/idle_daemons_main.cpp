// Daemons that never do anything, many in one process:
//   idle_daemons_main URL COUNT     the token is the first line of the standard input
// Prints "connected" when the host has welcomed all of them, and ends when it has closed all connections. Before that it
// prints "N told to stop, M for good": by the first word that each has heard, since a daemon acts on that.
#include <algorithm>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "dispatch/link_wire.hpp"
#include "net/dialler.hpp"
#include "net/make_reactor.hpp"
#include "rbridge/embed/link_greeting.hpp"

namespace {

using namespace setsuna;

class IdleDaemon final : net::DiallerEvents, net::ConnectionSink {
 public:
  IdleDaemon(net::Reactor& reactor, const net::Url& url, const net::ResolveResult& found,
             const net::HandshakeConfig& config)
      : dialler_(reactor, url, found, config, *this) {
    dialler_.start();
  }

  bool welcome() const { return welcome_; }
  bool over() const { return over_; }
  const std::string& reason() const { return reason_; }
  bool stopped() const { return stop_.has_value(); }
  bool stopped_for_good() const { return stop_ && stop_->final != 0; }

 private:
  net::ConnectionSink* on_host(std::unique_ptr<net::Connection>& connection, std::string*) override {
    connection_ = std::move(connection);
    return this;
  }
  void on_failed(const std::string& sentence, bool) override { on_closed(sentence); }
  void on_open() override {}
  std::byte* on_begin(const net::MessageHeader&, std::span<const std::byte>, std::string*) override { return nullptr; }
  void on_message(const net::MessageHeader& header, std::span<const std::byte> head,
                  std::span<const std::byte>) override {
    welcome_ = welcome_ || header.type == static_cast<std::uint16_t>(dispatch::LinkMessage::kWelcome);
    dispatch::LinkStop stop;
    if (header.type == static_cast<std::uint16_t>(dispatch::LinkMessage::kStop) && !stop_ &&
        dispatch::read_head(head, &stop)) {
      stop_ = stop;
    }
  }
  void on_torn(const net::MessageHeader&) override {}
  void on_sent(std::uint64_t) override {}
  void on_closed(const std::string& reason) override {
    over_ = true;
    reason_ = reason;
  }

  net::Dialler dialler_;
  std::unique_ptr<net::Connection> connection_;
  bool welcome_ = false;
  bool over_ = false;
  std::optional<dispatch::LinkStop> stop_;
  std::string reason_;
};

}  // namespace

int main(int count, char** arguments) {
  const net::ParsedUrl url = net::parse_url(count == 3 ? arguments[1] : "");
  std::string token;
  if (!url.url || !std::getline(std::cin, token)) {
    std::cerr << "usage: echo TOKEN | idle_daemons_main URL COUNT\n";
    return 2;
  }
  const dispatch::LinkGreeting greeting = embed::own_greeting();
  const auto bytes = std::as_bytes(std::span(&greeting, 1));
  const net::HandshakeConfig config{token, {bytes.begin(), bytes.end()}};
  const net::ResolveResult found = net::resolve(*url.url);
  net::MadeReactor made = net::make_reactor(net::ReactorChoice::kAutomatic);
  if (!found.message.empty() || made.reactor == nullptr) {
    std::cerr << found.message << made.error << '\n';
    return 1;
  }
  std::deque<IdleDaemon> daemons;
  for (long i = 0; i < std::atol(arguments[2]); ++i) {
    daemons.emplace_back(*made.reactor, *url.url, found, config);
  }
  const auto until = [&](auto condition) {
    while (!std::all_of(daemons.begin(), daemons.end(), condition)) {
      made.reactor->run_once();
    }
  };
  until([](const IdleDaemon& daemon) { return daemon.welcome() || daemon.over(); });
  const auto lost = std::find_if(daemons.begin(), daemons.end(), [](const IdleDaemon& d) { return d.over(); });
  std::cout << (lost == daemons.end() ? "connected" : lost->reason()) << std::endl;
  if (lost == daemons.end()) {
    until([](const IdleDaemon& daemon) { return daemon.over(); });
    std::cout << std::count_if(daemons.begin(), daemons.end(), [](const IdleDaemon& d) { return d.stopped(); })
              << " told to stop, "
              << std::count_if(daemons.begin(), daemons.end(), [](const IdleDaemon& d) { return d.stopped_for_good(); })
              << " for good" << std::endl;
  }
  std::_Exit(lost == daemons.end() ? 0 : 1);
}
