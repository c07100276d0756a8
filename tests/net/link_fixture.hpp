// Hosts and diallers on one reactor, and sinks that record.
#pragma once

#include <gmock/gmock.h>

#include <deque>
#include <map>

#include "net/dialler.hpp"
#include "net/listener.hpp"
#include "runtime/clock.hpp"
#include "tests/net/reactor_fixture.hpp"

namespace setsuna::net {

struct Said {
  std::uint16_t type;
  Lane lane;
  std::uint64_t id;
  std::string head;
  std::string text;
};

// One end of a connection.
struct End : ConnectionSink {
  std::unique_ptr<Connection> connection;
  bool opened = false;
  std::vector<Said> messages;
  std::vector<std::uint64_t> sent;
  std::vector<std::uint64_t> torn;
  std::string closed;
  int closes = 0;
  bool give_memory = true;
  bool keep_text = true;
  std::map<std::uint64_t, std::string> memory;  // by id
  std::vector<std::string> heads;
  std::string reject_with;
  std::function<void(End&)> then_open;
  std::function<void(End&, const Said&)> then_message;
  std::function<void(End&)> then_closed;

  void on_open() override {
    EXPECT_FALSE(opened);
    opened = true;
    if (then_open) {
      then_open(*this);
    }
  }
  std::byte* on_begin(const MessageHeader& header, std::span<const std::byte> head, std::string* reject) override {
    EXPECT_EQ(header.lane, Lane::kData);
    heads.emplace_back(reinterpret_cast<const char*>(head.data()), head.size());
    *reject = reject_with;
    if (!give_memory || header.body_bytes == 0 || !reject_with.empty()) {
      return nullptr;
    }
    std::string& room = memory[header.id];
    room.assign(header.body_bytes, '\0');
    return reinterpret_cast<std::byte*>(room.data());
  }
  void on_message(const MessageHeader& header, std::span<const std::byte> head,
                  std::span<const std::byte> body) override {
    EXPECT_TRUE(opened);
    EXPECT_EQ(header.body_bytes, body.size());
    Said said{header.type, header.lane, header.id, {reinterpret_cast<const char*>(head.data()), head.size()}, {}};
    if (keep_text) {
      said.text.assign(reinterpret_cast<const char*>(body.data()), body.size());
    }
    messages.push_back(said);
    if (then_message) {
      then_message(*this, said);
    }
  }
  void on_torn(const MessageHeader& header) override {
    EXPECT_EQ(closes, 0);
    torn.push_back(header.id);
  }
  void on_sent(std::uint64_t ticket) override {
    EXPECT_EQ(closes, 0);
    sent.push_back(ticket);
  }
  void on_closed(const std::string& reason) override {
    ++closes;
    closed = reason;
    if (then_closed) {
      then_closed(*this);
    }
  }

  void say(const std::string& text, std::uint64_t id = 0) {
    connection->send(7, Lane::kControl, id, {}, std::as_bytes(std::span(text)), 0);
  }
  // With a ticket, `body` lives until it is sent.
  void send(std::uint64_t id, const std::string& head, const std::string& body = {}, std::uint64_t ticket = 0) {
    connection->send(9, Lane::kData, id, std::as_bytes(std::span(head)), std::as_bytes(std::span(body)), ticket);
  }
};

inline HandshakeConfig credentials(const std::optional<std::string>& token, const std::string& greeting) {
  const auto bytes = std::as_bytes(std::span(greeting));
  return {token, {bytes.begin(), bytes.end()}};
}

inline std::string greeting_of(const Connection& connection) {
  const auto bytes = connection.peer_greeting();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct Host : ListenerEvents {
  std::unique_ptr<Listener> listener;
  std::vector<Url> urls;
  std::deque<End> ends;
  std::vector<std::size_t> came_to;  // positions of URLs
  std::vector<std::string> rejected;
  std::string refuse_with;
  std::function<void(End&)> prepare;

  ConnectionSink* on_peer(std::unique_ptr<Connection>& connection, std::size_t url, std::string* refusal) override {
    if (!refuse_with.empty()) {
      *refusal = refuse_with;
      return nullptr;
    }
    came_to.push_back(url);
    End& end = ends.emplace_back();
    end.connection = std::move(connection);
    if (prepare) {
      prepare(end);
    }
    return &end;
  }
  void on_rejected(const std::string& sentence) override { rejected.push_back(sentence); }
};

struct Client : DiallerEvents {
  std::unique_ptr<Dialler> dialler;
  End end;
  std::string failed;
  bool refused = false;
  std::string refuse_with;

  ConnectionSink* on_host(std::unique_ptr<Connection>& connection, std::string* refusal) override {
    if (!refuse_with.empty()) {
      *refusal = refuse_with;
      return nullptr;
    }
    end.connection = std::move(connection);
    return &end;
  }
  void on_failed(const std::string& sentence, bool was_refused) override {
    refused = was_refused;
    EXPECT_EQ(failed, "");
    failed = sentence;
  }
};

// On which reactor, over what: "tcp", "tls+tcp", "ws", "wss".
struct LinkParam {
  Kind kind;
  const char* scheme;
};

inline std::ostream& operator<<(std::ostream& out, const LinkParam& param) {
  return out << param.kind << '_' << param.scheme;
}

class LinkTest : public ReactorFixture, public testing::WithParamInterface<LinkParam> {
 protected:
  void SetUp() override { set_up(GetParam().kind); }

  std::string any_url() const { return std::string(GetParam().scheme) + "://127.0.0.1:0"; }

  void TearDown() override {
    hosts_.clear();
    clients_.clear();
    if (reactor_ != nullptr) {
      reactor_->close_all();
    }
  }

  Host& host(const std::optional<std::string>& token = "secret") { return host_at(any_url(), token); }

  Host& host_at(const std::string& url, const std::optional<std::string>& token = "secret") {
    const Url parsed[] = {parse_url(url).url.value()};
    BindResult bound = bind_urls(parsed);
    EXPECT_EQ(bound.message, "");
    Host& out = *hosts_.emplace_back(std::make_unique<Host>());
    out.urls = bound.urls;
    out.listener =
        std::make_unique<Listener>(*reactor_, std::move(bound), credentials(token, "I am host"), out, tls().server);
    return out;
  }

  Client& dial(const Url& url, const std::optional<std::string>& token = "secret") {
    Client& out = *clients_.emplace_back(std::make_unique<Client>());
    out.dialler =
        std::make_unique<Dialler>(*reactor_, url, resolve(url), credentials(token, "I am daemon"), out, tls().client);
    out.dialler->start();
    return out;
  }

  // A certificate for this machine, made once.
  struct Tls {
    MadeCertificate made;
    TlsContextPtr server;
    TlsContextPtr client;
  };
  static const Tls& tls() {
    static const Tls instance = [] {
      Tls out;
      std::string error;
      const std::string names[] = {"127.0.0.1", "::1", "localhost"};
      EXPECT_TRUE(make_certificate(names, 1, out.made, &error)) << error;
      out.server = make_tls_server(out.made.certificate, out.made.key, nullptr, &error);
      out.client = make_tls_client(out.made.certificate, &error);
      EXPECT_EQ(error, "");
      return out;
    }();
    return instance;
  }

  // An open connection: the host's end of it and the dialler's.
  std::pair<End*, End*> connect(Host& host) {
    const std::size_t before = host.ends.size();
    Client& client = dial(host.urls[0]);
    run_until([&] { return (client.end.opened && host.ends.size() > before) || !client.failed.empty(); });
    EXPECT_EQ(client.failed, "");
    run_until([&] { return host.ends.back().opened; });
    return {&host.ends.back(), &client.end};
  }

  // Somebody who speaks whatever the test wants.
  UniqueFd stranger(const Host& host) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(host.urls[0].port);
    return tcp_client(address);
  }

  std::vector<std::unique_ptr<Host>> hosts_;
  std::vector<std::unique_ptr<Client>> clients_;
};

inline std::string link_param_name(const testing::TestParamInfo<LinkParam>& info) {
  std::string name = testing::PrintToString(info.param);
  std::replace(name.begin(), name.end(), '+', '_');
  return name;
}

inline std::vector<LinkParam> link_params(std::initializer_list<const char*> schemes) {
  std::vector<LinkParam> out;
  for (const char* scheme : schemes) {
    for (const Kind kind : {Kind::kIoUring, Kind::kIoUringPlain, Kind::kEpoll}) {
      out.push_back({kind, scheme});
    }
  }
  return out;
}

}  // namespace setsuna::net
