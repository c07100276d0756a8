// A host on the network without R: drives real daemons, R processes that call setsuna::daemon().
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dispatch/link_wire.hpp"
#include "net/listener.hpp"
#include "net/tls_context.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::embed::test {

// The encoded value of R code. Same text, same bytes: cached. encode_all() needs one start of R for many.
const std::string& encoded(const std::string& code);
void encode_all(const std::vector<std::string>& codes);

// A task's arguments: the expression, and bindings as R code.
inline std::string task_code(const std::string& expression, const std::string& bindings = "") {
  return "list(quote({" + expression + "}), list(), list(" + bindings + "))";
}

struct LinkedResult {
  runtime::ResultStatus status;
  std::string bytes;
};

// The host's end of a connection to a daemon.
class Peer final : public net::ConnectionSink {
 public:
  explicit Peer(std::unique_ptr<net::Connection> connection) : connection_(std::move(connection)) {}

  void welcome(const std::string& hooks = "");
  // `code` as of task_code(), evaluated and encoded.
  void task(std::uint64_t id, const std::string& code, runtime::TaskKind kind = runtime::TaskKind::kEval,
            std::uint64_t key = 0);
  void send(dispatch::LinkMessage type, std::uint64_t id, std::span<const std::byte> head = {},
            const std::string& body = "");
  void close() { connection_->close("the test is over"); }

  bool has(std::uint64_t id) const { return results.count(id) != 0; }

  bool open = false;
  std::optional<std::string> closed;
  std::map<std::uint64_t, LinkedResult> results;
  std::vector<std::uint64_t> order;  // of results
  std::vector<std::uint64_t> retracted;
  std::optional<std::uint32_t> leaving;

  // net::ConnectionSink
  void on_open() override { open = true; }
  std::byte* on_begin(const net::MessageHeader&, std::span<const std::byte>, std::string*) override { return nullptr; }
  void on_message(const net::MessageHeader& header, std::span<const std::byte> head,
                  std::span<const std::byte> body) override;
  void on_torn(const net::MessageHeader&) override {}
  void on_sent(std::uint64_t) override {}
  void on_closed(const std::string& reason) override { closed = reason; }

 private:
  std::unique_ptr<net::Connection> connection_;
};

// An R process that is to be a daemon. Killed at the end of the scope.
class DaemonProcess {
 public:
  ~DaemonProcess();
  pid_t pid = -1;
  std::string output;         // standard output and error, as far as it has come
  bool output_ended = false;  // nobody has it open any more
  std::optional<int> status;  // as waitpid() gives it, once it has ended

 private:
  friend class LinkHost;
  net::Reactor* reactor_ = nullptr;
  runtime::UniqueFd pidfd_, pipe_;
  net::Token exit_watch_, output_watch_;
  void on_output(const net::Completion& completion);
  void on_exit(const net::Completion& completion);
};

class LinkHost final : net::ListenerEvents {
 public:
  static constexpr const char* kToken = "36ba2f8c";

  // `tls`: for tls+tcp and wss.
  explicit LinkHost(const std::string& url = "tcp://127.0.0.1:0", net::TlsContextPtr tls = {});
  ~LinkHost();

  void listen();  // again at the same port, if it has listened before
  void stop_listening();
  std::string url() const { return net::format_url(url_); }

  // `Rscript -e "setsuna::daemon(url, token, <arguments>)"`; its value is the exit status.
  std::unique_ptr<DaemonProcess> start_daemon(const std::string& arguments = "");
  // `input` is its standard input.
  std::unique_ptr<DaemonProcess> start(const std::vector<std::string>& command, const std::string& input = "");

  void wait_for(const std::function<bool()>& done);
  // The next daemon to come, welcomed.
  Peer& next_peer();
  // Waits for the result of a task.
  const LinkedResult& result(Peer& peer, std::uint64_t id);

  std::vector<std::string> rejected;

 private:
  net::ConnectionSink* on_peer(std::unique_ptr<net::Connection>& connection, std::size_t url,
                               std::string* refusal) override;
  void on_rejected(const std::string& sentence) override { rejected.push_back(sentence); }

  std::unique_ptr<net::Reactor> reactor_;
  std::unique_ptr<net::Listener> listener_;
  net::Url url_;
  const net::TlsContextPtr tls_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::size_t next_ = 0;
};

}  // namespace setsuna::embed::test
