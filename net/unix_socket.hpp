// Sockets on the same machine (abstract:// and ipc://), who is on the other side, and descriptors as messages.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "net/url.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::net {

// A close-on-exec socket in blocking mode, or what went wrong.
struct SocketResult {
  runtime::UniqueFd fd;
  int error = 0;        // errno
  std::string message;  // names the URL, the cause, and what to do

  explicit operator bool() const noexcept { return static_cast<bool>(fd); }
};

// Listens at an abstract:// or ipc:// URL. `type`: SOCK_SEQPACKET (the local handshake) or SOCK_STREAM. The file of an
// ipc:// URL is made for this user alone; one left behind by a dead process is replaced.
SocketResult listen_unix(const Url& url, int type);

// Removes the file of an ipc:// URL (nothing to do for abstract://). For whoever listened there.
void unlink_unix(const Url& url) noexcept;

// Connects, and refuses a listener of another user (an abstract name can be taken by anyone). Waits only while the
// listener's queue is full; error EINTR: a signal came meanwhile, try again.
SocketResult connect_unix(const Url& url, int type);

// Two connected sockets, close-on-exec. 0 or -errno.
int socket_pair(int type, runtime::UniqueFd& one, runtime::UniqueFd& other) noexcept;

struct PeerCredentials {
  pid_t pid = -1;
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
};

// Of the process that connected, or (seen from a connector) that called listen(). 0 or -errno.
int peer_credentials(int fd, PeerCredentials& out) noexcept;

// The peer runs as the effective user of this process.
bool peer_is_same_user(int fd) noexcept;

// A stable handle of the peer process, exact where the kernel offers it (Linux 6.5), else by its pid. Empty: it is gone.
runtime::UniqueFd peer_pidfd(int fd) noexcept;

enum class Blocking : bool { kNo, kYes };

inline constexpr std::size_t kMaxFdsPerMessage = 8;

// One message, not empty, with copies of up to kMaxFdsPerMessage descriptors. Bytes sent (a message socket: all), or
// -errno: -EAGAIN full, -EPIPE the peer is gone, -EINTR a signal came while it waited (nothing was sent). Raises no signal.
ssize_t send_message(int fd, std::span<const std::byte> bytes, std::span<const int> fds, Blocking blocking) noexcept;

struct ReceivedMessage {
  ssize_t bytes = 0;  // 0: the peer has closed. -errno: -EAGAIN nothing there, -EMSGSIZE did not fit (dropped), -EINTR
  std::array<runtime::UniqueFd, kMaxFdsPerMessage> fds;  // close-on-exec
  std::size_t fd_count = 0;
};

ReceivedMessage receive_message(int fd, std::span<std::byte> buffer, Blocking blocking) noexcept;

}  // namespace setsuna::net
