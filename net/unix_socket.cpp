#include "net/unix_socket.hpp"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "runtime/assert.hpp"
#include "runtime/pidfd.hpp"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // Linux 6.5
#endif

namespace setsuna::net {
namespace {

using runtime::UniqueFd;

constexpr int kBacklog = 4096;  // the system caps it (net.core.somaxconn)

struct UnixAddress {
  sockaddr_un address{};
  socklen_t length = 0;

  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&address); }
};

// parse_url has checked the length.
UnixAddress address_of(const Url& url) {
  SETSUNA_ASSERT(url.is_local());
  UnixAddress out;
  SETSUNA_ASSERT(!url.path.empty() && url.path.size() < sizeof out.address.sun_path);
  out.address.sun_family = AF_UNIX;
  const std::size_t skip = url.scheme == Scheme::kAbstract ? 1 : 0;  // an abstract name begins with a zero byte
  std::memcpy(out.address.sun_path + skip, url.path.data(), url.path.size());
  // Both forms take one byte beside the name: the zero before it, or the one behind.
  out.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + url.path.size() + 1);
  return out;
}

// `error` by value: strings may change errno.
SocketResult failure(const char* what, const Url& url, int error, const char* advice) {
  std::string message = std::string(what) + " " + quote_for_message(format_url(url)) + ": " + std::strerror(error);
  return {UniqueFd(), error, advice[0] == '\0' ? message : message + "; " + advice};
}

const char* listen_advice(int error) {
  switch (error) {
    case EADDRINUSE: return "another process listens there: choose another name";
    case ENOENT: return "the directory does not exist: create it, or use abstract://";
    case EACCES: return "you may not write to that directory: choose another, or use abstract://";
    case EMFILE:
    case ENFILE: return "too many open files: raise the limit (ulimit -n)";
    default: return "";
  }
}

const char* connect_advice(int error) {
  switch (error) {
    case ECONNREFUSED:
    case ENOENT: return "nobody listens there: start the host with daemons(url = ) first, and check the name";
    case EACCES: return "the socket belongs to another user";
    case EPROTOTYPE: return "what listens there is another kind of socket, not setsuna";
    case EMFILE:
    case ENFILE: return "too many open files: raise the limit (ulimit -n)";
    default: return "";
  }
}

// A socket file that refuses connections has no process behind it.
bool remove_stale_file(const UnixAddress& address, int type) noexcept {
  struct stat status;
  if (::lstat(address.address.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode) || status.st_uid != ::geteuid()) {
    return false;
  }
  const UniqueFd probe(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return probe && ::connect(probe.get(), address.get(), address.length) != 0 && errno == ECONNREFUSED &&
         ::unlink(address.address.sun_path) == 0;
}

int bind_retrying(int fd, const UnixAddress& address, const Url& url, int type) noexcept {
  if (::bind(fd, address.get(), address.length) == 0) {
    return 0;
  }
  const int error = errno;
  if (error == EADDRINUSE && url.scheme == Scheme::kIpc && remove_stale_file(address, type)) {
    return ::bind(fd, address.get(), address.length) == 0 ? 0 : errno;
  }
  return error;
}

void take_fds(const msghdr& header, ReceivedMessage& out) noexcept {
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr;
       control = CMSG_NXTHDR(const_cast<msghdr*>(&header), control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof fd);
      SETSUNA_ASSERT(out.fd_count < kMaxFdsPerMessage);  // the control buffer holds no more
      out.fds[out.fd_count++] = UniqueFd(fd);
    }
  }
}

// Room for one SCM_RIGHTS of kMaxFdsPerMessage, aligned as a cmsghdr.
struct alignas(cmsghdr) ControlBuffer {
  char bytes[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))];
};

}  // namespace

SocketResult listen_unix(const Url& url, int type) {
  static constexpr char kWhat[] = "cannot listen at";
  const UnixAddress address = address_of(url);
  UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!fd) {
    return failure(kWhat, url, errno, listen_advice(errno));
  }
  ::fchmod(fd.get(), S_IRUSR | S_IWUSR);  // before bind: the mode of the file that bind will make, no umask needed
  int error = bind_retrying(fd.get(), address, url, type);
  if (error == 0 && ::listen(fd.get(), kBacklog) != 0) {
    error = errno;
  }
  return error == 0 ? SocketResult{std::move(fd), 0, {}} : failure(kWhat, url, error, listen_advice(error));
}

void unlink_unix(const Url& url) noexcept {
  if (url.scheme == Scheme::kIpc) {
    ::unlink(url.path.c_str());
  }
}

SocketResult connect_unix(const Url& url, int type) {
  static constexpr char kWhat[] = "cannot connect to";
  const UnixAddress address = address_of(url);
  UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!fd) {
    return failure(kWhat, url, errno, connect_advice(errno));
  }
  if (::connect(fd.get(), address.get(), address.length) != 0) {
    return failure(kWhat, url, errno, connect_advice(errno));
  }
  if (!peer_is_same_user(fd.get())) {
    return failure(kWhat, url, EACCES, connect_advice(EACCES));
  }
  return {std::move(fd), 0, {}};
}

int socket_pair(int type, UniqueFd& one, UniqueFd& other) noexcept {
  int fds[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) {
    return -errno;
  }
  one.reset(fds[0]);
  other.reset(fds[1]);
  return 0;
}

int peer_credentials(int fd, PeerCredentials& out) noexcept {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return -errno;
  }
  out = {credentials.pid, credentials.uid, credentials.gid};
  return 0;
}

bool peer_is_same_user(int fd) noexcept {
  PeerCredentials peer;
  return peer_credentials(fd, peer) == 0 && peer.uid == ::geteuid();
}

UniqueFd peer_pidfd(int fd) noexcept {
  int pidfd = -1;
  socklen_t length = sizeof pidfd;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0) {
    return UniqueFd(pidfd);
  }
  PeerCredentials peer;
  return errno == ENOPROTOOPT && peer_credentials(fd, peer) == 0 ? runtime::pidfd_open(peer.pid) : UniqueFd();
}

ssize_t send_message(int fd, std::span<const std::byte> bytes, std::span<const int> fds, Blocking blocking) noexcept {
  SETSUNA_ASSERT(!bytes.empty());  // an empty message looks like a closed peer
  SETSUNA_ASSERT(fds.size() <= kMaxFdsPerMessage);
  iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
  ControlBuffer control{};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.bytes;
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  const int flags = MSG_NOSIGNAL | (blocking == Blocking::kNo ? MSG_DONTWAIT : 0);
  const ssize_t sent = ::sendmsg(fd, &header, flags);
  return sent < 0 ? -errno : sent;
}

ReceivedMessage receive_message(int fd, std::span<std::byte> buffer, Blocking blocking) noexcept {
  iovec piece{buffer.data(), buffer.size()};
  ControlBuffer control{};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof control.bytes;
  const int flags = MSG_CMSG_CLOEXEC | (blocking == Blocking::kNo ? MSG_DONTWAIT : 0);
  ReceivedMessage out;
  out.bytes = ::recvmsg(fd, &header, flags);
  if (out.bytes < 0) {
    out.bytes = -errno;
    return out;
  }
  take_fds(header, out);
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    ReceivedMessage cut;  // what came of it is closed here
    cut.bytes = -EMSGSIZE;
    return cut;
  }
  return out;
}

}  // namespace setsuna::net
