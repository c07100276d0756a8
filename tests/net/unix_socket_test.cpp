// Local listeners, who connects to them, and messages with descriptors.
#include "net/unix_socket.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "runtime/pidfd.hpp"

namespace setsuna::net {
namespace {

using runtime::UniqueFd;

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/setsuna-test-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  Url url(const std::string& name) const { return parse_url("ipc://" + path(name)).url.value(); }

 private:
  std::string path_;
};

Url abstract_url(const std::string& name) {
  return parse_url("abstract://setsuna-test-" + std::to_string(::getpid()) + "-" + name).url.value();
}

UniqueFd accepted(const SocketResult& listener) {
  return UniqueFd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

TEST(UnixSocket, AbstractNamesConnectThisUser) {
  const Url url = abstract_url("a");
  const SocketResult listener = listen_unix(url, SOCK_SEQPACKET);
  ASSERT_TRUE(listener) << listener.message;
  const SocketResult client = connect_unix(url, SOCK_SEQPACKET);
  ASSERT_TRUE(client) << client.message;
  const UniqueFd server = accepted(listener);
  PeerCredentials peer;
  ASSERT_EQ(peer_credentials(server.get(), peer), 0);
  EXPECT_EQ(peer.pid, ::getpid());
  EXPECT_EQ(peer.uid, ::geteuid());
  EXPECT_TRUE(peer_is_same_user(server.get()));
  const UniqueFd pidfd = peer_pidfd(server.get());
  ASSERT_TRUE(pidfd);
  EXPECT_FALSE(runtime::pidfd_exited(pidfd.get()));
  EXPECT_EQ(::fcntl(client.fd.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::fcntl(listener.fd.get(), F_GETFD), FD_CLOEXEC);
}

TEST(UnixSocket, ErrorsNameTheUrlAndTheCause) {
  const Url url = abstract_url("b");
  const SocketResult nobody = connect_unix(url, SOCK_SEQPACKET);
  EXPECT_FALSE(nobody);
  EXPECT_EQ(nobody.error, ECONNREFUSED);
  EXPECT_EQ(nobody.message, "cannot connect to '" + format_url(url) +
                                "': Connection refused; nobody listens there: start the host with daemons(url = ) "
                                "first, and check the name");
  const SocketResult first = listen_unix(url, SOCK_SEQPACKET);
  const SocketResult second = listen_unix(url, SOCK_SEQPACKET);
  EXPECT_FALSE(second);
  EXPECT_EQ(second.error, EADDRINUSE);
  EXPECT_NE(second.message.find("choose another name"), std::string::npos);
  const SocketResult other_kind = connect_unix(url, SOCK_STREAM);
  EXPECT_FALSE(other_kind);
  EXPECT_TRUE(other_kind.error == EPROTOTYPE || other_kind.error == ECONNREFUSED) << other_kind.error;
  const SocketResult no_folder = listen_unix(parse_url("ipc:///nonexistent/x").url.value(), SOCK_SEQPACKET);
  EXPECT_EQ(no_folder.error, ENOENT);
}

TEST(UnixSocket, FilesAreForThisUserAloneAndStaleOnesReplaced) {
  const Folder folder;
  const Url url = folder.url("a b.sock");  // a space is no problem in a file name
  {
    const SocketResult listener = listen_unix(url, SOCK_STREAM);
    ASSERT_TRUE(listener) << listener.message;
    struct stat status;
    ASSERT_EQ(::stat(url.path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    EXPECT_TRUE(connect_unix(url, SOCK_STREAM));
    const SocketResult second = listen_unix(url, SOCK_STREAM);
    EXPECT_EQ(second.error, EADDRINUSE) << "one that lives is not replaced";
  }
  EXPECT_EQ(connect_unix(url, SOCK_STREAM).error, ECONNREFUSED);
  {
    const SocketResult again = listen_unix(url, SOCK_STREAM);
    ASSERT_TRUE(again) << again.message;
    EXPECT_TRUE(connect_unix(url, SOCK_STREAM));
  }
  unlink_unix(url);
  EXPECT_EQ(connect_unix(url, SOCK_STREAM).error, ENOENT);
}

TEST(UnixSocket, OtherFilesAreNotTouched) {
  const Folder folder;
  const Url url = folder.url("notes.txt");
  UniqueFd(::open(url.path.c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_EQ(listen_unix(url, SOCK_STREAM).error, EADDRINUSE);
  EXPECT_TRUE(std::filesystem::exists(url.path));
}

TEST(UnixSocket, TheLongestNamesWork) {
  const Url url = parse_url("abstract://" + std::string(107, 'n')).url.value();
  const SocketResult listener = listen_unix(url, SOCK_SEQPACKET);
  ASSERT_TRUE(listener) << listener.message;
  EXPECT_TRUE(connect_unix(url, SOCK_SEQPACKET));
  const Folder folder;
  std::string name(107 - folder.path("").size(), 'n');
  const SocketResult file = listen_unix(folder.url(name), SOCK_SEQPACKET);
  ASSERT_TRUE(file) << file.message;
  EXPECT_TRUE(connect_unix(folder.url(name), SOCK_SEQPACKET));
}

TEST(UnixSocket, AnotherUserIsRecognised) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root to become another user";
  }
  const Url url = abstract_url("c");
  const SocketResult listener = listen_unix(url, SOCK_SEQPACKET);
  const pid_t child = ::fork();
  if (child == 0) {
    const bool changed = ::setresuid(65534, 65534, 65534) == 0;
    const SocketResult client = connect_unix(url, SOCK_SEQPACKET);
    ::_exit(changed && !client && client.error == EACCES ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "the connector refuses a listener of another user";
  const UniqueFd server = accepted(listener);
  EXPECT_FALSE(peer_is_same_user(server.get())) << "and the listener refuses the connector";
}

TEST(UnixSocket, ThePidfdIsOfTheProcessThatConnected) {
  const Url url = abstract_url("d");
  const SocketResult listener = listen_unix(url, SOCK_SEQPACKET);
  const pid_t child = ::fork();
  if (child == 0) {
    const SocketResult client = connect_unix(url, SOCK_SEQPACKET);
    ::pause();
    ::_exit(0);
  }
  const UniqueFd server = accepted(listener);
  const UniqueFd pidfd = peer_pidfd(server.get());
  ASSERT_TRUE(pidfd);
  EXPECT_FALSE(runtime::pidfd_exited(pidfd.get()));
  ASSERT_EQ(runtime::pidfd_send_signal(pidfd.get(), SIGKILL), 0);
  pollfd entry{pidfd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, -1), 1);
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
}

// ---- messages ----

class Messages : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(socket_pair(SOCK_SEQPACKET, one_, other_), 0); }

  static std::size_t open_descriptors() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      ++count;
    }
    return count;
  }

  UniqueFd one_;
  UniqueFd other_;
  std::byte buffer_[100];
};

TEST_F(Messages, KeepTheirBoundariesAndDescriptors) {
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  const UniqueFd read_end(pipe_fds[0]);
  UniqueFd write_end(pipe_fds[1]);
  std::vector<int> eight(kMaxFdsPerMessage, write_end.get());
  ASSERT_EQ(send_message(one_.get(), bytes("with"), eight, Blocking::kYes), 4);
  ASSERT_EQ(send_message(one_.get(), bytes("without"), {}, Blocking::kYes), 7);
  write_end.reset();
  {
    const ReceivedMessage with = receive_message(other_.get(), buffer_, Blocking::kYes);
    EXPECT_EQ(with.bytes, 4);
    ASSERT_EQ(with.fd_count, kMaxFdsPerMessage);
    for (const UniqueFd& fd : with.fds) {
      EXPECT_EQ(::fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
      EXPECT_EQ(::write(fd.get(), "x", 1), 1);
    }
  }
  char text[16];
  EXPECT_EQ(::read(read_end.get(), text, sizeof text), 8);
  EXPECT_EQ(::read(read_end.get(), text, sizeof text), 0) << "every copy was closed";
  const ReceivedMessage without = receive_message(other_.get(), buffer_, Blocking::kYes);
  EXPECT_EQ(without.bytes, 7);
  EXPECT_EQ(without.fd_count, 0u);
}

TEST_F(Messages, NothingThereFullAndClosed) {
  EXPECT_EQ(receive_message(other_.get(), buffer_, Blocking::kNo).bytes, -EAGAIN);
  ssize_t sent;
  while ((sent = send_message(one_.get(), bytes("x"), {}, Blocking::kNo)) == 1) {
  }
  EXPECT_EQ(sent, -EAGAIN);
  one_.reset();
  ReceivedMessage message;
  while ((message = receive_message(other_.get(), buffer_, Blocking::kNo)).bytes == 1) {
  }
  EXPECT_EQ(message.bytes, 0);
  EXPECT_EQ(send_message(other_.get(), bytes("x"), {}, Blocking::kNo), -EPIPE) << "and no SIGPIPE";
}

TEST_F(Messages, TooLongOnesAreDroppedWithTheirDescriptors) {
  const int fds[] = {one_.get(), one_.get()};
  const std::size_t before = open_descriptors();
  ASSERT_GT(send_message(one_.get(), bytes(std::string(101, 'x')), fds, Blocking::kYes), 0);
  ASSERT_EQ(send_message(one_.get(), bytes("next"), {}, Blocking::kYes), 4);
  const ReceivedMessage cut = receive_message(other_.get(), buffer_, Blocking::kYes);
  EXPECT_EQ(cut.bytes, -EMSGSIZE);
  EXPECT_EQ(cut.fd_count, 0u);
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(receive_message(other_.get(), buffer_, Blocking::kYes).bytes, 4);
}

TEST_F(Messages, MoreDescriptorsThanExpectedAreRefused) {
  // A peer that does not keep to the limit.
  std::vector<int> nine(kMaxFdsPerMessage + 1, one_.get());
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * (kMaxFdsPerMessage + 1))] = {};
  char text[] = "x";
  iovec piece{text, 1};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(nine.size() * sizeof(int));
  std::memcpy(CMSG_DATA(rights), nine.data(), nine.size() * sizeof(int));
  const std::size_t before = open_descriptors();
  ASSERT_EQ(::sendmsg(one_.get(), &header, 0), 1);
  const ReceivedMessage message = receive_message(other_.get(), buffer_, Blocking::kYes);
  // The padding of the control buffer may have room for one more; what the limit does not take is cut, and then all goes.
  EXPECT_EQ(message.bytes, -EMSGSIZE);
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace setsuna::net
