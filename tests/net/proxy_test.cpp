// WebSocket through a real reverse proxy: nginx, with and without TLS of its own.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "net/tcp_socket.hpp"
#include "tests/net/certificates.hpp"
#include "tests/net/fault_proxy.hpp"
#include "tests/net/link_fixture.hpp"

namespace setsuna::net {
namespace {

constexpr char kNginx[] = "/usr/sbin/nginx";

// Runs while it lives, in a folder of its own.
class Nginx {
 public:
  // `upstream`: what the host behind it speaks, http or https.
  Nginx(const std::string& upstream, std::uint16_t host_port)
      : folder_(testing::TempDir() + "setsuna-nginx-" + std::to_string(::getpid())) {
    std::filesystem::create_directories(folder_);
    plain_.port = listen_tcp(plain_).url.port;  // free again
    secure_.port = listen_tcp(secure_).url.port;
    write(upstream, host_port);
    const std::string file = folder_ + "/nginx.conf";
    const std::string log = folder_ + "/error.log";
    const char* arguments[] = {kNginx, "-p", folder_.c_str(), "-e", log.c_str(), "-c", file.c_str(), nullptr};
    EXPECT_EQ(::posix_spawn(&pid_, kNginx, nullptr, nullptr, const_cast<char* const*>(arguments), environ), 0);
  }
  ~Nginx() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
    std::filesystem::remove_all(folder_);
  }
  Nginx(const Nginx&) = delete;
  Nginx& operator=(const Nginx&) = delete;

  const Url& plain() const { return plain_; }
  const Url& secure() const { return secure_; }

 private:
  void write(const std::string& upstream, std::uint16_t host_port) {
    std::ofstream(folder_ + "/certificate") << pem::kLeaf << pem::kIntermediate;
    std::ofstream(folder_ + "/key") << pem::kLeafKey;
    std::ofstream out(folder_ + "/nginx.conf");
    out << "daemon off; master_process off; pid pid; error_log error.log; events { worker_connections 64; }\n"
        << "http { access_log off;\n";
    for (const char* kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
      out << kind << "_temp_path " << kind << ";\n";
    }
    out << "server { listen 127.0.0.1:" << plain_.port << "; listen 127.0.0.1:" << secure_.port << " ssl;\n"
        << "ssl_certificate certificate; ssl_certificate_key key;\n"
        << "location / { proxy_pass " << upstream << "://127.0.0.1:" << host_port << "; proxy_http_version 1.1;\n"
        << "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\"; } } }\n";
  }

  std::string folder_;
  Url plain_ = parse_url("ws://127.0.0.1:0/daemons").url.value();
  Url secure_ = parse_url("wss://127.0.0.1:0/daemons").url.value();
  pid_t pid_ = -1;
};

class Proxy : public LinkTest {
 protected:
  void SetUp() override {
    if (::access(kNginx, X_OK) != 0) {
      GTEST_SKIP() << "nginx is not installed (Debian: nginx-light)";
    }
    LinkTest::SetUp();
  }

  // Until nginx is up.
  Client& dial_patiently(const Url& url, const TlsContextPtr& trusted) {
    for (;;) {
      Client& client = *clients_.emplace_back(std::make_unique<Client>());
      client.dialler =
          std::make_unique<Dialler>(*reactor_, url, resolve(url), credentials("secret", "daemon"), client, trusted);
      client.dialler->start();
      run_until([&] { return client.end.opened || !client.failed.empty(); });
      if (client.failed.find("Connection refused") == std::string::npos) {
        EXPECT_EQ(client.failed, "");
        return client;
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Links, Proxy, testing::ValuesIn(link_params({"ws", "wss"})), link_param_name);

TEST_P(Proxy, PassesEverythingOn) {
  Host& host = host_at(any_url() + "/daemons");
  const Nginx nginx(host.urls[0].is_tls() ? "https" : "http", host.urls[0].port);
  std::string error;
  const TlsContextPtr trusted = make_tls_client(pem::kRoot, &error);
  const std::string body = pattern(5'000'000);
  for (const Url& url : {nginx.plain(), nginx.secure()}) {
    Client& client = dial_patiently(url, trusted);
    if (!client.end.opened) {
      return;
    }
    End& at_host = host.ends.back();
    End& at_daemon = client.end;
    EXPECT_EQ(at_host.connection->path(), "/daemons");
    at_host.send(1, "head", body, 1);
    at_daemon.send(2, "head", body, 2);
    at_host.say("hello");
    at_daemon.say("hello");
    run_until([&] { return at_host.messages.size() == 2 && at_daemon.messages.size() == 2; });
    EXPECT_TRUE(at_host.messages[1].text == body);
    EXPECT_TRUE(at_daemon.messages[1].text == body);
    at_daemon.connection->close("done");
    run_until([&] { return at_host.closes == 1 && at_daemon.closes == 1; });
    EXPECT_THAT(at_host.closed, testing::HasSubstr("done"));
  }
  Url wrong = nginx.plain();
  wrong.path = "/elsewhere";
  Client& lost = dial(wrong);
  run_until([&] { return !lost.failed.empty(); });
  EXPECT_THAT(lost.failed, testing::HasSubstr("404 Not Found"));
}

// TLS protects one half of the way only: the frames' own checksums protect the other.
class HalfProtected : public Proxy {};
INSTANTIATE_TEST_SUITE_P(Links, HalfProtected, testing::ValuesIn(link_params({"ws"})), link_param_name);

TEST_P(HalfProtected, DamageBehindTheProxyIsNoticed) {
  Host& host = host_at(any_url() + "/daemons");
  FaultProxy line(host.urls[0].port);
  const Nginx nginx("http", line.port());
  std::string error;
  Client& client = dial_patiently(nginx.secure(), make_tls_client(pem::kRoot, &error));
  ASSERT_TRUE(client.end.opened);
  run_until([&] { return !host.ends.empty() && host.ends.back().opened; });
  End& at_host = host.ends.back();
  line.strike({Fault::Kind::kFlip, Fault::Way::kUp, 5000, 1});
  const std::string body = pattern(10'000);
  client.end.send(1, "head", body, 1);
  run_until([&] { return at_host.closes == 1; });
  EXPECT_THAT(at_host.closed, testing::HasSubstr("contents of a frame are damaged"));
  EXPECT_TRUE(at_host.messages.empty());
}

}  // namespace
}  // namespace setsuna::net
