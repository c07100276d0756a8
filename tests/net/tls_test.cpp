// Certificates: which are trusted, which are not, and what is said then.
#include <dlfcn.h>
#include <spawn.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>

#include "net/frame.hpp"
#include "net/handshake.hpp"
#include "net/layer_stack.hpp"
#include "net/tls_layer.hpp"
#include "net/tls_library.hpp"
#include "net/websocket.hpp"
#include "runtime/poison.hpp"  // SETSUNA_ASAN
#include "tests/net/certificates.hpp"
#include "tests/net/frame_bytes.hpp"
#include "tests/net/link_fixture.hpp"

namespace setsuna::net {
namespace {

using testing::HasSubstr;

class Tls : public LinkTest {
 protected:
  TlsContextPtr server(const std::string& certificate, const std::string& key) {
    std::string error;
    TlsContextPtr out = make_tls_server(certificate, key, nullptr, &error);
    EXPECT_EQ(error, "");
    return out;
  }

  TlsContextPtr client(const std::string& trusted) {
    std::string error;
    TlsContextPtr out = make_tls_client(trusted, &error);
    EXPECT_EQ(error, "");
    return out;
  }

  // What the dialler says, and the host: empty when they get along.
  struct Outcome {
    std::string dialler;
    std::string host;
  };
  Outcome meet(const TlsContextPtr& at_host, const TlsContextPtr& at_dialler, const std::string& name = "127.0.0.1") {
    Host& host = *hosts_.emplace_back(std::make_unique<Host>());
    const Url any[] = {parse_url(any_url()).url.value()};
    BindResult bound = bind_urls(any);
    Url url = bound.urls.at(0);
    url.host = name;
    host.listener = std::make_unique<Listener>(*reactor_, std::move(bound), credentials("t", "host"), host, at_host);
    Client& dialling = *clients_.emplace_back(std::make_unique<Client>());
    dialling.dialler =
        std::make_unique<Dialler>(*reactor_, url, resolve(url), credentials("t", "daemon"), dialling, at_dialler);
    dialling.dialler->start();
    run_until([&] { return dialling.end.opened || (!dialling.failed.empty() && !host.rejected.empty()); });
    return {dialling.failed, host.rejected.empty() ? std::string() : host.rejected[0]};
  }
};
INSTANTIATE_TEST_SUITE_P(Links, Tls, testing::ValuesIn(link_params({"tls+tcp", "wss"})), link_param_name);

TEST_P(Tls, ChainsAreVerified) {
  const TlsContextPtr at_host = server(std::string(pem::kLeaf) + pem::kIntermediate, pem::kLeafKey);
  EXPECT_EQ(meet(at_host, client(pem::kRoot)).dialler, "");
  EXPECT_EQ(meet(at_host, client(pem::kIntermediate)).dialler, "");
  EXPECT_EQ(meet(at_host, client(pem::kLeaf)).dialler, "");
  EXPECT_EQ(meet(at_host, client(pem::kRoot), "localhost").dialler, "");
  const TlsContextPtr incomplete = server(pem::kLeaf, pem::kLeafKey);
  EXPECT_THAT(meet(incomplete, client(pem::kRoot)).dialler, HasSubstr("not trusted"));
  EXPECT_EQ(meet(incomplete, client(std::string(pem::kRoot) + pem::kIntermediate)).dialler, "");
}

TEST_P(Tls, UntrustedCertificatesAreNamed) {
  const Outcome other = meet(tls().server, client(pem::kRoot));
  EXPECT_THAT(other.dialler, HasSubstr("its certificate is not trusted: "));
  EXPECT_THAT(other.dialler, HasSubstr("'tlscert'"));
  EXPECT_THAT(other.host, HasSubstr("the other side refused the TLS connection: "));
  const TlsContextPtr root = client(pem::kRoot);
  EXPECT_THAT(meet(server(pem::kExpired, pem::kExpiredKey), root).dialler,
              HasSubstr("has expired; it needs a new one"));
  EXPECT_THAT(meet(server(pem::kElsewhere, pem::kElsewhereKey), root, "localhost").dialler,
              HasSubstr("dial the name that the certificate was made for"));
  EXPECT_THAT(meet(server(pem::kElsewhere, pem::kElsewhereKey), root).dialler,
              HasSubstr("dial the name that the certificate was made for"));
  EXPECT_THAT(meet(tls().server, client({})).dialler, HasSubstr("not trusted"));
}

TEST_P(Tls, RevokedCertificates) {
  const TlsContextPtr revoked = server(pem::kRevoked, pem::kLeafKey);
  EXPECT_EQ(meet(revoked, client(pem::kRoot)).dialler, "");
  EXPECT_THAT(meet(revoked, client(std::string(pem::kRoot) + pem::kRevocations)).dialler, HasSubstr("revoked"));
  EXPECT_EQ(meet(server(pem::kElsewhere, pem::kElsewhereKey), client(std::string(pem::kRoot) + pem::kRevocations))
                .dialler.find("revoked"),
            std::string::npos);
}

TEST_P(Tls, CertificatesMadeForTheNamesOfAHost) {
  MadeCertificate made;
  std::string error;
  const std::string names[] = {"some-host.example", "10.0.0.1", "fe80::1"};
  ASSERT_TRUE(make_certificate(names, 30, made, &error)) << error;
  EXPECT_THAT(made.certificate, HasSubstr("-----BEGIN CERTIFICATE-----"));
  EXPECT_EQ(made.certificate.find("PRIVATE"), std::string::npos);
  const TlsContextPtr at_host = server(made.certificate, made.key);
  EXPECT_THAT(meet(at_host, client(made.certificate)).dialler, HasSubstr("dial the name"));
  MadeCertificate again;
  const std::string here[] = {"127.0.0.1"};
  ASSERT_TRUE(make_certificate(here, 30, again, &error));
  EXPECT_EQ(meet(server(again.certificate, again.key), client(again.certificate)).dialler, "");
  EXPECT_THAT(meet(server(again.certificate, again.key), tls().client).dialler, HasSubstr("not trusted"));
}

TEST_P(Tls, AnotherProtocolOnEitherSide) {
  Host& host = this->host();
  Url plain = host.urls[0];
  plain.scheme = plain.is_websocket() ? Scheme::kWs : Scheme::kTcp;
  Client& client = dial(plain);
  run_until([&] { return !client.failed.empty() && host.rejected.size() == 1; });
  EXPECT_THAT(host.rejected[0], HasSubstr("what comes is not TLS"));
  Host& plain_host = host_at(std::string(GetParam().scheme).find("ws") == 0 ? "ws://127.0.0.1:0" : "tcp://127.0.0.1:0");
  Url secure = plain_host.urls[0];
  secure.scheme = host.urls[0].scheme;
  Client& secure_client = dial(secure);
  run_until([&] { return !secure_client.failed.empty() && plain_host.rejected.size() == 1; });
  EXPECT_THAT(plain_host.rejected[0], HasSubstr("what comes is not "));
  EXPECT_THAT(secure_client.failed, HasSubstr("cannot connect to '" + format_url(secure)));
}

// ---- one TLS connection from end to end ----

// What a dialler says and hears inside of TLS, word by word.
class TlsStranger final : ByteSink {
 public:
  TlsStranger(UniqueFd fd, const TlsContext& trusted, bool websocket) : fd_(std::move(fd)) {
    layers_.push(std::make_unique<TlsLayer>(trusted, "127.0.0.1"));
    if (websocket) {
      layers_.push(std::make_unique<WebSocketLayer>("/", "127.0.0.1", opened_tls_library()));
    }
    advance();
  }

  // What is there, if anything. Hangs up when the other side has said farewell.
  void read() {
    std::byte buffer[4096];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got > 0 && layers_.receive(std::span(buffer).first(static_cast<std::size_t>(got)), *this)) {
      advance();
    } else if (got >= 0) {
      fd_.reset();
    }
  }
  void write(std::uint16_t type, std::uint8_t flags, const std::string& body) {
    std::string frame = message_bytes(type, flags, body);
    const iovec piece{frame.data(), frame.size()};
    std::vector<std::byte> wire;
    EXPECT_TRUE(layers_.send(std::span(&piece, 1), wire));
    write_all(wire);
  }
  void write(const Handshake::Reply& reply) {
    const Handshake::Message& message = reply.value();
    write(static_cast<std::uint16_t>(message.type), 0,
          {reinterpret_cast<const char*>(message.bytes.data()), message.bytes.size()});
  }

  const LayerStack& layers() const { return layers_; }
  bool has_hung_up() const { return fd_.get() < 0; }

  // The oldest frame that was heard and not taken. False: it is not there yet.
  bool take(FrameHeader& header, std::vector<std::byte>& body) {
    if (heard_.size() < sizeof header) {
      return false;
    }
    std::memcpy(&header, heard_.data(), sizeof header);
    const std::size_t start = sizeof header + header.head_bytes;
    if (heard_.size() < start + header.chunk_bytes) {
      return false;
    }
    const auto from = heard_.begin() + static_cast<std::ptrdiff_t>(start);
    body.assign(from, from + header.chunk_bytes);
    heard_.erase(heard_.begin(), from + header.chunk_bytes);
    return true;
  }

 private:
  bool on_bytes(std::span<const std::byte> bytes) override {
    heard_.insert(heard_.end(), bytes.begin(), bytes.end());
    return true;
  }
  void advance() {
    std::vector<std::byte> wire;
    layers_.advance();
    layers_.take_output(wire);
    write_all(wire);
  }
  void write_all(const std::vector<std::byte>& wire) {
    EXPECT_EQ(::send(fd_.get(), wire.data(), wire.size(), MSG_NOSIGNAL), static_cast<ssize_t>(wire.size()));
  }

  UniqueFd fd_;
  LayerStack layers_;
  std::vector<std::byte> heard_;
};

class EndToEnd : public Tls {
 protected:
  // A dialler that has said hello and proof, with the binding that it says it has.
  TlsStranger& meet_stranger(Host& host, bool right_binding, const std::optional<std::string>& token = "secret") {
    const bool websocket = host.urls[0].is_websocket();
    TlsStranger& stranger =
        *strangers_.emplace_back(std::make_unique<TlsStranger>(this->stranger(host), *tls().client, websocket));
    wait_for([&] { return stranger.layers().open(); });
    ChannelBinding binding = stranger.layers().binding();
    EXPECT_NE(binding, ChannelBinding{});
    binding[31] ^= std::byte{right_binding ? std::uint8_t{0} : std::uint8_t{1}};  // a proxy between has its own
    const HandshakeConfig settings = credentials(token, "stranger");
    Handshake handshake(Handshake::Role::kDialler, settings, opened_tls_library());
    stranger.write(handshake.start(binding));
    FrameHeader header;
    std::vector<std::byte> body;
    wait_for([&] { return stranger.take(header, body); });
    stranger.write(handshake.on_message(static_cast<NetMessage>(header.type), body));
    wait_for([&] { return stranger.take(header, body); });
    EXPECT_FALSE(handshake.on_message(static_cast<NetMessage>(header.type), body));
    EXPECT_EQ(handshake.state(), Handshake::State::kDone);
    EXPECT_EQ(handshake.is_end_to_end(), right_binding);
    return stranger;
  }

  // What the host sends: has its chunk a checksum?
  bool host_checks(Host& host, TlsStranger& stranger) {
    host.ends.back().send(5, "head", "body");
    FrameHeader header;
    std::vector<std::byte> body;
    wait_for([&] { return stranger.take(header, body); });
    EXPECT_EQ(header.id, 5u);
    EXPECT_EQ(header.is_checked(), header.checksum != 0);
    return header.is_checked();
  }

  // Or until a stranger has hung up, which the host learns a little later.
  template <class Condition>
  void wait_for(Condition condition) {
    bool met = condition();
    for (int left = 1000; left > 0 && !met; met = condition()) {
      for (const auto& stranger : strangers_) {
        stranger->read();
        left -= stranger->has_hung_up() ? 1 : 0;
      }
      run_what_is_there();
    }
    EXPECT_TRUE(met);
  }

  std::vector<std::unique_ptr<TlsStranger>> strangers_;
};
INSTANTIATE_TEST_SUITE_P(Links, EndToEnd, testing::ValuesIn(link_params({"tls+tcp", "wss"})), link_param_name);

constexpr std::uint8_t kUncheckedData = FrameHeader::kData | FrameHeader::kUnchecked;

TEST_P(EndToEnd, ChecksumsAreLeftOut) {
  Host& host = this->host();
  TlsStranger& stranger = meet_stranger(host, true);
  EXPECT_FALSE(host_checks(host, stranger));
  for (const std::uint8_t flags : {kUncheckedData, FrameHeader::kData}) {
    const std::size_t before = host.ends.back().messages.size();
    stranger.write(9, flags, "by TLS");
    wait_for([&] { return host.ends.back().messages.size() > before; });
    EXPECT_EQ(host.ends.back().messages.back().text, "by TLS");
  }
}

TEST_P(EndToEnd, ChecksumsAreLeftOutWithoutATokenToo) {
  Host& host = this->host(std::nullopt);
  EXPECT_FALSE(host_checks(host, meet_stranger(host, true, std::nullopt)));
}

TEST_P(EndToEnd, ChecksumsAreNeededWhereSomebodyEndsTlsBetween) {
  Host& host = this->host();
  TlsStranger& stranger = meet_stranger(host, false);
  EXPECT_TRUE(host_checks(host, stranger));
  stranger.write(9, kUncheckedData, "by whom?");
  wait_for([&] { return host.ends.back().closes == 1; });
  EXPECT_THAT(host.ends.back().closed, HasSubstr("without a checksum"));
  EXPECT_TRUE(host.ends.back().messages.empty());
}

// ---- loading ----

TEST(TlsContext, KeysInAllForms) {
  const std::string open = "open";
  const std::string wrong = "wrong";
  std::string error;
  EXPECT_NE(make_tls_server(std::string(pem::kLeaf) + pem::kLeafKey, {}, nullptr, &error), nullptr) << error;
  EXPECT_NE(make_tls_server(std::string(pem::kLeafKey) + pem::kLeaf, {}, nullptr, &error), nullptr) << error;
  for (const char* encrypted : {pem::kLeafKeyEncrypted, pem::kLeafKeyOldEncrypted}) {
    EXPECT_NE(make_tls_server(pem::kLeaf, encrypted, &open, &error), nullptr) << error;
    EXPECT_EQ(error, "");
    EXPECT_EQ(make_tls_server(pem::kLeaf, encrypted, &wrong, &error), nullptr);
    EXPECT_THAT(error, HasSubstr("the password is wrong"));
    EXPECT_EQ(make_tls_server(pem::kLeaf, encrypted, nullptr, &error), nullptr);
    EXPECT_THAT(error, HasSubstr("give its password as 'pass'"));
    error.clear();
  }
}

TEST(TlsContext, SaysWhatIsWrongWithASource) {
  std::string error;
  EXPECT_EQ(make_tls_server(pem::kLeaf, pem::kExpiredKey, nullptr, &error), nullptr);
  EXPECT_THAT(error, HasSubstr("cannot use the certificate: the private key does not belong to the certificate"));
  EXPECT_EQ(make_tls_server(pem::kLeaf, {}, nullptr, &error), nullptr);
  EXPECT_THAT(error, HasSubstr("there is no private key in PEM in it"));
  EXPECT_EQ(make_tls_server(pem::kLeafKey, {}, nullptr, &error), nullptr);
  EXPECT_THAT(error, HasSubstr("there is no certificate in PEM in it"));
  EXPECT_EQ(make_tls_client("-----BEGIN CERTIFICATE-----\nrubbish", &error), nullptr);
  EXPECT_THAT(error, HasSubstr("there is no certificate in PEM in it"));
  EXPECT_EQ(make_tls_client("/nowhere/ca.pem", &error), nullptr);
  EXPECT_THAT(error, HasSubstr("cannot read the file '/nowhere/ca.pem': No such file or directory"));
}

TEST(TlsContext, Files) {
  const std::string file = testing::TempDir() + "setsuna-tls-test.pem";
  std::ofstream(file) << pem::kLeaf << pem::kLeafKey;
  std::string error;
  EXPECT_NE(make_tls_server(file, {}, nullptr, &error), nullptr) << error;
  EXPECT_NE(make_tls_client(file, &error), nullptr) << error;
  std::ofstream(file) << "no certificate\n";
  EXPECT_EQ(make_tls_client(file, &error), nullptr);
  EXPECT_THAT(error, HasSubstr("cannot use the file '" + file + "': there is no certificate"));
  std::remove(file.c_str());
}

// OpenSSL first in the global scope, with functions of the same names: ours must still find its own.
TEST(TlsLibrary, DoesNotMeetOpenSsl) {
#if defined(SETSUNA_ASAN) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizers cannot work with RTLD_DEEPBIND";
#endif
  void* other = ::dlopen("libssl.so.3", RTLD_LAZY | RTLD_LOCAL);
  if (other == nullptr) {
    GTEST_SKIP() << "OpenSSL 3 is not installed";
  }
  ::dlclose(other);
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const char* arguments[] = {self.c_str(), "--gtest_filter=Links/Tls.ChainsAreVerified/Epoll_tls_tcp", nullptr};
  const char* environment[] = {"LD_PRELOAD=libssl.so.3 libcrypto.so.3", nullptr};
  pid_t child = -1;
  ASSERT_EQ(::posix_spawn(&child, self.c_str(), nullptr, nullptr, const_cast<char* const*>(arguments),
                          const_cast<char* const*>(environment)),
            0);
  int status = 1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(TlsLibrary, Crypto) {
  const setsuna_tls_api& api = opened_tls_library();
  std::uint8_t digest[SETSUNA_SHA256_BYTES];
  api.hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, digest);  // RFC 4231
  EXPECT_EQ(digest[0], 0x5b);
  EXPECT_EQ(digest[31], 0x43);
  api.sha1("abc", 3, digest);
  EXPECT_EQ(digest[0], 0xa9);
  EXPECT_EQ(digest[19], 0x9d);
  EXPECT_EQ(api.equal("abc", "abc", 3), 1);
  EXPECT_EQ(api.equal("abc", "abd", 3), 0);
  std::uint8_t one[32] = {};
  std::uint8_t other[32] = {};
  api.random_bytes(one, sizeof one);
  api.random_bytes(other, sizeof other);
  EXPECT_NE(std::memcmp(one, other, sizeof one), 0);
}

}  // namespace
}  // namespace setsuna::net
