// The messages between a host and its zygote (the fork server), one a datagram over a SOCK_SEQPACKET pair.
//
//   host -> zygote   ForkRequest + descriptors (see FdSlot), StopRequest, KillRequest
//   zygote -> host   ReadyReport, ForkedReport + pidfd, ExitedReport, FailedReport
//
// Both ends come from one installation; kWireVersion and the layout hash in ReadyReport tell when they do not (the
// package was installed anew while the host runs).
#pragma once

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace setsuna::embed {

inline constexpr std::uint32_t kWireMagic = 0x59'5A'54'53;  // "STZY", little endian
inline constexpr std::uint16_t kWireVersion = 1;

// Where the zygote finds what its host hands it.
inline constexpr int kSocketFd = 3;
inline constexpr int kHostPidfd = 4;

enum class MessageKind : std::uint16_t {
  fork_request = 1,
  stop_request,
  kill_request,
  ready_report = 16,
  forked_report,
  exited_report,
  failed_report,
};

struct WireHeader {
  std::uint32_t magic;
  std::uint16_t version;
  MessageKind kind;
};

// A daemon is named by its index and epoch, never by a bare pid.
struct DaemonId {
  std::uint32_t index;
  std::uint32_t epoch;
  bool operator==(const DaemonId&) const = default;
};

// The descriptors of a ForkRequest come in this order; fd_mask says which of them are present. Absent output or error
// streams mean the null device.
enum FdSlot : std::uint32_t { kFdSegment, kFdHostPage, kFdRefill, kFdConfig, kFdStdout, kFdStderr, kFdSlots };

enum class ForkMode : std::uint32_t {
  automatic,  // fork, or exec where the zygote has more than one thread
  fork,
  exec,  // a fresh `setsuna-daemon --child`: slow, but nothing is inherited from a threaded zygote
};

// ForkRequest::autoexit: what the zygote does to the daemon once the host is gone. A positive value is a signal: sent
// at once, and the daemon is killed if it has not gone kSignalGraceMs later.
inline constexpr std::int32_t kAutoexitKill = 0;  // autoexit = TRUE: kill at once
inline constexpr std::int32_t kAutoexitFinish =
    -1;  // autoexit = NA or FALSE: kHostGoneSignal, then wait for it to exit
inline constexpr int kSignalGraceMs = 500;

// Tells a daemon that its host is gone and that it should exit after the task in hand. The evaluator installs a
// handler; without one the default action ends the process. Not a constant: the C library chooses SIGRTMIN.
inline int host_gone_signal() noexcept { return SIGRTMIN + 6; }

// Exit status of a daemon that could not make its temporary directory.
inline constexpr int kNoTempdirStatus = 73;

inline constexpr std::uint32_t kForkBatch = 64;  // daemons a request

struct ForkRequest {
  WireHeader header;
  std::uint32_t count;
  ForkMode mode;
  std::uint32_t fd_mask;  // bit (1 << FdSlot)
  std::int32_t autoexit;
  DaemonId daemons[kForkBatch];
};

// No more forks; the zygote exits when its last daemon has gone.
struct StopRequest {
  WireHeader header;
};

// SIGKILL to the daemon and its process group, for a host that could not take the pidfd. Unknown ids are ignored.
struct KillRequest {
  WireHeader header;
  DaemonId daemon;
};

struct ReadyReport {
  WireHeader header;
  std::int32_t pid;
  std::uint32_t threads;  // of the zygote; above 1, forks are made by exec
  std::uint64_t layout_hash;
  std::uint32_t r_version;      // R_VERSION: major << 16 | minor << 8 | patch
  char threaded_packages[492];  // preloaded packages that started threads, separated by ", "; NUL-terminated
};

struct ForkedReport {  // carries the pidfd
  WireHeader header;
  DaemonId daemon;
  std::int32_t pid;
  ForkMode mode;  // fork or exec, never automatic
};

struct ExitedReport {
  WireHeader header;
  DaemonId daemon;
  std::int32_t pid;
  std::int32_t wait_status;  // as waitpid() gives it
  std::uint32_t oom_killed;  // 1: a SIGKILL that is not the zygote's, and the kernel's count of memory kills rose
  std::uint32_t killed_by_zygote;
};

struct FailedReport {  // the daemon does not exist; no ExitedReport follows
  WireHeader header;
  DaemonId daemon;
  std::int32_t error;  // errno, or 0: see message
  char message[508];   // NUL-terminated
};

static_assert(sizeof(WireHeader) == 8 && sizeof(ForkRequest) == 24 + 8 * kForkBatch && sizeof(ReadyReport) == 520 &&
              sizeof(ForkedReport) == 24 && sizeof(ExitedReport) == 32 && sizeof(FailedReport) == 528);

union AnyMessage {
  WireHeader header;
  ForkRequest fork_request;
  StopRequest stop_request;
  KillRequest kill_request;
  ReadyReport ready;
  ForkedReport forked;
  ExitedReport exited;
  FailedReport failed;
};
static_assert(std::is_trivially_copyable_v<AnyMessage>);

constexpr WireHeader wire_header(MessageKind kind) noexcept { return {kWireMagic, kWireVersion, kind}; }

// The size that a message of this kind must have; 0 for an unknown kind.
constexpr std::size_t wire_size(MessageKind kind) noexcept {
  switch (kind) {
    case MessageKind::fork_request: return sizeof(ForkRequest);
    case MessageKind::stop_request: return sizeof(StopRequest);
    case MessageKind::kill_request: return sizeof(KillRequest);
    case MessageKind::ready_report: return sizeof(ReadyReport);
    case MessageKind::forked_report: return sizeof(ForkedReport);
    case MessageKind::exited_report: return sizeof(ExitedReport);
    case MessageKind::failed_report: return sizeof(FailedReport);
  }
  return 0;
}

}  // namespace setsuna::embed
