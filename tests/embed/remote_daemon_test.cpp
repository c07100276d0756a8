// Real daemons on the network, with a host without R.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>

#include "fake_host.hpp"
#include "link_host.hpp"

namespace setsuna::embed::test {
namespace {

using dispatch::LinkMessage;
using dispatch::LinkStop;
using runtime::ResultStatus;
using runtime::TaskKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// A task that says that it has begun, and then sleeps for ever.
const std::string kSleeper = "cat('begun\n'); Sys.sleep(1e6)";

class RemoteDaemonTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!installed_package().empty()) {
      encode_all({task_code("1 + 1"), task_code(kSleeper), "2", "NULL"});
    }
  }
  void SetUp() override {
    if (installed_package().empty()) GTEST_SKIP() << "setsuna is not installed (SETSUNA_TEST_LIB)";
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  }

  std::string value(Peer& peer, std::uint64_t id) {
    const LinkedResult& result = host_.result(peer, id);
    EXPECT_EQ(result.status, ResultStatus::kValue);
    return result.bytes;
  }
  void expect_works(Peer& peer, std::uint64_t id = 999) {
    peer.task(id, task_code("1 + 1"));
    EXPECT_EQ(value(peer, id), encoded("2"));
  }
  void wait_output(DaemonProcess& daemon, const std::string& text) {
    host_.wait_for([&] { return daemon.output.find(text) != std::string::npos || daemon.output_ended; });
    ASSERT_THAT(daemon.output, HasSubstr(text));
  }
  // Of a task that writes "child PID forked".
  pid_t forked_child(DaemonProcess& daemon) {
    wait_output(daemon, "forked");
    return std::atoi(daemon.output.c_str() + daemon.output.find("child") + 6);
  }
  // The exit status, or minus the signal.
  int ended(DaemonProcess& daemon) {
    host_.wait_for([&] { return daemon.status.has_value(); });
    return WIFEXITED(*daemon.status) ? WEXITSTATUS(*daemon.status) : -WTERMSIG(*daemon.status);
  }
  void wait_closed(Peer& peer) {
    host_.wait_for([&] { return peer.closed.has_value(); });
  }
  void stop(Peer& peer, bool final) {
    const LinkStop head{final ? 1U : 0U};
    peer.send(LinkMessage::kStop, 0, std::as_bytes(std::span(&head, 1)));
  }

  LinkHost host_;
};

// --- Evaluation --------------------------------------------------------------------------------------------

TEST_F(RemoteDaemonTest, ValuesAndErrorsComeBack) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  expect_works(peer, 1);
  peer.task(2, task_code("stop('no')"));
  EXPECT_EQ(host_.result(peer, 2).status, ResultStatus::kError);
  peer.task(3, task_code("return(x + y)", "x = 1, y = 1"));
  EXPECT_EQ(value(peer, 3), encoded("2"));
  peer.close();
  EXPECT_EQ(ended(*daemon), 0);
}

TEST_F(RemoteDaemonTest, LargeArgumentsAndResults) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  const std::string large = "as.double(seq_len(1e6)) + 0.5";
  for (std::uint64_t id = 1; id <= 3; ++id) {
    peer.task(id, task_code("x", "x = " + large));
    EXPECT_EQ(value(peer, id), encoded(large));
  }
  peer.task(4, task_code("x[1] <- 1; identical(x[-1], (as.double(seq_len(1e6)) + 0.5)[-1])", "x = " + large));
  EXPECT_EQ(value(peer, 4), encoded("TRUE"));
}

TEST_F(RemoteDaemonTest, TasksOfAllKindsRunInOrder) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  peer.task(1, task_code("y <- 1"), TaskKind::kEverywhere);
  peer.task(2, task_code("y <- y + 1; z <- 5"));
  peer.task(3, task_code("y <- y + 1"), TaskKind::kEverywhere);
  peer.task(4, task_code("if (exists('z')) stop('z') else y"));
  EXPECT_EQ(value(peer, 4), encoded("2"));
  EXPECT_THAT(peer.order, ElementsAre(1, 2, 3, 4));
}

TEST_F(RemoteDaemonTest, AConstantServesMapElements) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  std::string constant(8, '\0');  // flags
  constant += encoded("list(function(x, by) sum(x) + length(by), list(by = numeric(5e5)), list())");
  peer.send(LinkMessage::kConstant, 7, {}, constant);
  for (std::uint64_t id = 1; id <= 3; ++id) {
    peer.task(id, "c(1, 2)", TaskKind::kMapElement, 7);
    EXPECT_EQ(value(peer, id), encoded("5e5 + 3"));
  }
  peer.send(LinkMessage::kForget, 7);
  peer.send(LinkMessage::kConstant, 8, {}, constant);
  peer.task(4, "1", TaskKind::kMapElement, 8);
  EXPECT_EQ(value(peer, 4), encoded("5e5 + 1"));
}

// --- Cancel, kill, stop ------------------------------------------------------------------------------------

TEST_F(RemoteDaemonTest, ARunningTaskIsCancelledAndTheNextRuns) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  peer.task(1, task_code(kSleeper));
  peer.task(2, task_code("1 + 1"));
  wait_output(*daemon, "begun");
  peer.send(LinkMessage::kCancel, 1);
  EXPECT_EQ(host_.result(peer, 1).status, ResultStatus::kCancelled);
  EXPECT_EQ(value(peer, 2), encoded("2"));
}

TEST_F(RemoteDaemonTest, SoIsOneThatWaitsForAProgram) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  peer.task(1, task_code("cat('begun\\n'); system('sleep 1000000')"));
  wait_output(*daemon, "begun");
  const auto sleeps = [&] {
    const std::vector<pid_t> all = live_descendants(daemon->pid);
    return std::any_of(all.begin(), all.end(), [](pid_t pid) { return process_name(pid) == "sleep"; });
  };
  while (!sleeps()) {
  }
  peer.send(LinkMessage::kCancel, 1);
  host_.result(peer, 1);
  expect_works(peer);
}

TEST_F(RemoteDaemonTest, QueuedTasksAreCancelledAndRetracted) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  for (std::uint64_t id = 1; id <= 3; ++id) {
    peer.task(id, task_code(kSleeper));
  }
  wait_output(*daemon, "begun");
  peer.send(LinkMessage::kRetract, 3);
  peer.send(LinkMessage::kCancel, 2);
  EXPECT_EQ(host_.result(peer, 2).status, ResultStatus::kCancelled);
  EXPECT_THAT(peer.retracted, ElementsAre(3));
}

TEST_F(RemoteDaemonTest, ATaskThatCannotBeInterruptedIsKilledWithWhatItStarted) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  peer.task(1, task_code("p <- parallel::mcparallel(Sys.sleep(1e6)); cat('child', p$pid, 'forked\n'); "
                         "repeat tryCatch(Sys.sleep(1e6), interrupt = identity)"));
  const pid_t child = forked_child(*daemon);
  ASSERT_GT(child, 0);
  ASSERT_TRUE(process_exists(child));
  peer.send(LinkMessage::kKill, 0);
  EXPECT_EQ(ended(*daemon), -SIGKILL);
  wait_closed(peer);
  wait_gone({child});
}

TEST_F(RemoteDaemonTest, AnInterruptFromOutsideIsTheTasks) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  peer.task(1, task_code(kSleeper));
  wait_output(*daemon, "begun");
  ::kill(daemon->pid, SIGINT);
  EXPECT_EQ(host_.result(peer, 1).status, ResultStatus::kInterrupted);
  ::kill(daemon->pid, SIGINT);  // idle now
  expect_works(peer);
}

TEST_F(RemoteDaemonTest, StopLetsTheTaskFinish) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  const ScopedDirectory directory;
  peer.task(
      1, task_code("cat('begun\n'); while (!file.exists(f)) Sys.sleep(0.01); 2", "f = '" + directory.path() + "/go'"));
  wait_output(*daemon, "begun");
  peer.task(2, task_code("1 + 1"));
  stop(peer, false);
  directory.write("go", "");
  wait_closed(peer);
  EXPECT_EQ(value(peer, 1), encoded("2"));
  EXPECT_THAT(peer.retracted, ElementsAre(2));
  EXPECT_EQ(peer.leaving, 0U);
  EXPECT_EQ(ended(*daemon), 0);
}

// --- Leaving -----------------------------------------------------------------------------------------------

TEST_F(RemoteDaemonTest, LimitsEndIt) {
  const auto few = host_.start_daemon("maxtasks = 2");
  Peer& peer = host_.next_peer();
  for (std::uint64_t id = 1; id <= 3; ++id) {
    peer.task(id, task_code("1 + 1"));
  }
  wait_closed(peer);
  EXPECT_THAT(peer.order, ElementsAre(1, 2));
  EXPECT_THAT(peer.retracted, ElementsAre(3));
  EXPECT_EQ(peer.leaving, 3U);
  EXPECT_EQ(ended(*few), 3);

  const auto idle = host_.start_daemon("idletime = 50");
  Peer& second = host_.next_peer();
  wait_closed(second);
  EXPECT_EQ(second.leaving, 1U);
  EXPECT_EQ(ended(*idle), 1);

  const auto old = host_.start_daemon("walltime = 50");
  Peer& third = host_.next_peer();
  wait_closed(third);
  EXPECT_EQ(third.leaving, 2U);
  EXPECT_EQ(ended(*old), 2);
}

TEST_F(RemoteDaemonTest, ALargeLastResultArrives) {
  const auto daemon = host_.start_daemon("maxtasks = 1");
  Peer& peer = host_.next_peer();
  peer.task(1, task_code("numeric(5e6)"));
  wait_closed(peer);
  EXPECT_EQ(value(peer, 1), encoded("numeric(5e6)"));
  EXPECT_EQ(ended(*daemon), 3);
}

// --- The connection ends -----------------------------------------------------------------------------------

TEST_F(RemoteDaemonTest, TheEndInterruptsTheTask) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  peer.task(1, task_code("tryCatch({" + kSleeper + "}, interrupt = function(e) cat('interrupted\n'))"));
  peer.task(2, task_code("cat('second\n')"));
  wait_output(*daemon, "begun");
  peer.close();
  EXPECT_EQ(ended(*daemon), 0);
  wait_output(*daemon, "interrupted");
  EXPECT_THAT(daemon->output, Not(HasSubstr("second")));
}

TEST_F(RemoteDaemonTest, ATaskThatTakesNoNoticeOfTheEndIsKilled) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  peer.task(1, task_code("cat('begun\n'); repeat tryCatch(Sys.sleep(1e6), interrupt = identity)"));
  wait_output(*daemon, "begun");
  peer.close();
  EXPECT_EQ(ended(*daemon), -SIGKILL);
}

TEST_F(RemoteDaemonTest, OrLetsItFinish) {
  const auto daemon = host_.start_daemon("autoexit = NA");
  Peer& peer = host_.next_peer();
  const ScopedDirectory directory;
  peer.task(1, task_code("cat('begun\n'); while (!file.exists(f)) Sys.sleep(0.01); cat('finished\n')",
                         "f = '" + directory.path() + "/go'"));
  wait_output(*daemon, "begun");
  peer.close();
  wait_closed(peer);
  directory.write("go", "");
  EXPECT_EQ(ended(*daemon), 0);
  wait_output(*daemon, "finished");
}

TEST_F(RemoteDaemonTest, OrRaisesASignal) {
  const auto daemon = host_.start_daemon("autoexit = 15");
  Peer& peer = host_.next_peer();
  peer.task(1, task_code(kSleeper));
  wait_output(*daemon, "begun");
  peer.close();
  EXPECT_EQ(ended(*daemon), -SIGTERM);
}

TEST_F(RemoteDaemonTest, APersistentDaemonJoinsTheNextHostAtTheUrl) {
  const auto daemon = host_.start_daemon("autoexit = FALSE, maxtasks = 5");
  Peer& first = host_.next_peer();
  first.task(1, task_code("y <<- 1; 2"));
  EXPECT_EQ(value(first, 1), encoded("2"));
  host_.stop_listening();
  first.close();
  wait_closed(first);
  host_.listen();
  Peer& second = host_.next_peer();
  second.task(1, task_code("exists('y')"));
  EXPECT_EQ(value(second, 1), encoded("FALSE"));
  stop(second, false);
  Peer& third = host_.next_peer();
  expect_works(third);
  stop(third, true);
  EXPECT_EQ(ended(*daemon), 0);
}

// --- What tasks do to their process ------------------------------------------------------------------------

TEST_F(RemoteDaemonTest, QuitEndsTheConnection) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  peer.task(1, task_code("quit('no', 9)"));
  wait_closed(peer);
  EXPECT_FALSE(peer.has(1));
  EXPECT_EQ(ended(*daemon), 9);
}

TEST_F(RemoteDaemonTest, ForkedChildrenDoNotKeepTheConnection) {
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  peer.task(1, task_code("unlist(parallel::mclapply(1:4, function(i) i + 0.5, mc.cores = 2))"));
  EXPECT_EQ(value(peer, 1), encoded("1:4 + 0.5"));
  peer.task(2, task_code("p <- parallel::mcparallel(Sys.sleep(1e6), detached = TRUE); cat('child', p$pid, 'forked\n'); "
                         "tools::pskill(Sys.getpid(), 9)"));
  const pid_t child = forked_child(*daemon);
  ASSERT_GT(child, 0);
  wait_closed(peer);
  EXPECT_TRUE(process_exists(child));
  ::kill(child, SIGKILL);
  EXPECT_EQ(ended(*daemon), -SIGKILL);
}

TEST_F(RemoteDaemonTest, ATaskThatClosesAllDescriptorsEndsTheDaemon) {
  const ScopedDirectory directory;
  directory.write("strip.c",
                  "#include <unistd.h>\nvoid strip(void) { for (int fd = 3; fd < 100000; ++fd) close(fd); }\n");
  ASSERT_EQ(std::system(("cd " + directory.path() + " && R CMD SHLIB strip.c >/dev/null 2>&1").c_str()), 0);
  const auto daemon = host_.start_daemon();
  Peer& peer = host_.next_peer();
  peer.task(1, task_code("dyn.load(f); .C('strip'); 1", "f = '" + directory.path() + "/strip.so'"));
  wait_closed(peer);
  EXPECT_NE(ended(*daemon), 0);
}

// --- Dialling ----------------------------------------------------------------------------------------------

TEST_F(RemoteDaemonTest, AWrongTokenIsAnErrorThatNamesTheUrl) {
  const auto daemon =
      host_.start({"Rscript", "--vanilla", "-e", "setsuna::daemon('" + host_.url() + "', token = 'wrong')"});
  EXPECT_EQ(ended(*daemon), 1);
  host_.wait_for([&] { return daemon->output_ended; });
  EXPECT_THAT(daemon->output, HasSubstr(host_.url()));
  EXPECT_THAT(daemon->output, HasSubstr("token"));
}

TEST_F(RemoteDaemonTest, TheTokenIsWipedFromTheCommandLine) {
  const auto daemon = host_.start_daemon();
  host_.next_peer();
  std::ifstream file("/proc/" + std::to_string(daemon->pid) + "/cmdline");
  const std::string line(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(line, HasSubstr("daemon("));
  EXPECT_THAT(line, HasSubstr("xxxxxxxx"));
  EXPECT_THAT(line, Not(HasSubstr(LinkHost::kToken)));
}

TEST_F(RemoteDaemonTest, AnAsynchronousDialWaitsForTheHost) {
  host_.stop_listening();
  const auto daemon = host_.start_daemon("asyncdial = TRUE");
  // The process runs and dials: both happen without us.
  std::string line;
  while (line.find("xxxxxxxx") == std::string::npos) {
    std::ifstream file("/proc/" + std::to_string(daemon->pid) + "/cmdline");
    line.assign(std::istreambuf_iterator<char>(file), {});
  }
  host_.listen();
  expect_works(host_.next_peer());
}

TEST_F(RemoteDaemonTest, DiallingCanBeInterrupted) {
  host_.stop_listening();
  const auto daemon = host_.start({"Rscript", "--vanilla", "-e",
                                   "tryCatch({cat('dialling\n'); setsuna::daemon('" + host_.url() +
                                       "', asyncdial = TRUE)}, interrupt = function(e) cat('interrupted\n'))"});
  wait_output(*daemon, "dialling");
  ::kill(daemon->pid, SIGINT);
  EXPECT_EQ(ended(*daemon), 0);
  wait_output(*daemon, "interrupted");
}

TEST_F(RemoteDaemonTest, AWrongTokenIsAnErrorAlsoForOneThatWouldWait) {
  const auto daemon = host_.start(
      {"Rscript", "--vanilla", "-e", "setsuna::daemon('" + host_.url() + "', token = 'wrong', autoexit = FALSE)"});
  EXPECT_EQ(ended(*daemon), 1);
}

TEST_F(RemoteDaemonTest, OverWebSockets) {
  LinkHost host("ws://127.0.0.1:0/some/path");
  const auto daemon = host.start_daemon();
  Peer& peer = host.next_peer();
  const std::string large = "as.double(seq_len(1e6)) + 0.5";
  peer.task(1, task_code("x", "x = " + large));
  EXPECT_EQ(host.result(peer, 1).bytes, encoded(large));
}

TEST_F(RemoteDaemonTest, OverTlsWithACertificateAsTextOrFile) {
  const std::string names[] = {"127.0.0.1"};
  net::MadeCertificate made;
  std::string error;
  ASSERT_TRUE(net::make_certificate(names, 10, made, &error)) << error;
  const net::TlsContextPtr tls = net::make_tls_server(made.certificate, made.key, nullptr, &error);
  ASSERT_TRUE(tls) << error;
  LinkHost host("tls+tcp://127.0.0.1:0", tls);
  const ScopedDirectory directory;
  const std::string file = directory.write("host.pem", made.certificate);
  for (const std::string& argument : {"tlscert = '" + file + "'", "tls = c('" + made.certificate + "', '')"}) {
    const auto daemon = host.start_daemon(argument);
    Peer& peer = host.next_peer();
    peer.task(1, task_code("1 + 1"));
    EXPECT_EQ(host.result(peer, 1).bytes, encoded("2"));
  }
  const auto stranger = host.start_daemon("asyncdial = TRUE");
  host.wait_for([&] { return stranger->status.has_value() && stranger->output_ended; });
  EXPECT_THAT(stranger->output, HasSubstr(host.url()));
  EXPECT_THAT(stranger->output, HasSubstr("certificate"));
}

TEST_F(RemoteDaemonTest, TheCommandDoesTheSame) {
  const std::string program = installed_package() + "/bin/setsuna";
  const auto daemon = host_.start({program, "daemon", host_.url(), "--token-stdin", "--maxtasks", "1"},
                                  std::string(LinkHost::kToken) + "\nmore");
  Peer& peer = host_.next_peer();
  expect_works(peer);
  EXPECT_EQ(ended(*daemon), 0);
  EXPECT_EQ(peer.leaving, 3U);
}

}  // namespace
}  // namespace setsuna::embed::test
