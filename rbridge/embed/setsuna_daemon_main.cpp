// setsuna-daemon: R embedded in an executable of our own, so that `ps` shows what it is. All it does is start R as Rscript
// would, load the installed setsuna and call its .daemon_main(). It links libR only: the one copy of our native code in
// the process is the package's shared object.
//
//   setsuna-daemon --zygote [--library=DIR] [--preload=PKG,PKG]      the fork server; its host's socket at descriptor 3
//   setsuna-daemon --child=INDEX.EPOCH:FDS [--library=DIR] [...]     a daemon started by exec instead of a fork
//   setsuna-daemon URL [ARGUMENT=VALUE ...]                          setsuna::daemon(URL, ARGUMENT = VALUE, ...)
//   setsuna daemon URL [OPTION ...]                                  the same, for people (see --help)
//   setsuna tune [OPTION ...]                                        setsuna::tune() (see --help)
//   setsuna top, setsuna status, setsuna metrics                     becomes another program (watch_command.hpp)
//
// `setsuna` is the same program under another name.

#ifndef R_NO_REMAP
#define R_NO_REMAP
#endif
#ifndef STRICT_R_HEADERS
#define STRICT_R_HEADERS
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <string>
#include <vector>

#include <Rembedded.h>
#include <Rinterface.h>
#include <Rinternals.h>

#include "command_line.hpp"
#include "watch_command.hpp"

namespace {

constexpr int kUsageStatus = 64;
constexpr int kFailedStatus = 70;
constexpr int kErrorStatus = 1;  // as of Rscript

struct Arguments {
  const char* mode = nullptr;     // "zygote", "child", "dial", "command", "tune"
  const char* library = nullptr;  // where setsuna is installed
  int rest_count = 0;             // all others, as given
  char* rest[256];
};

// `setsuna daemon ...`: what it asks for. Ends the process if that is help, or wrong. Empty: the program has its other name.
setsuna::embed::CommandLine* command_line(int argc, char** argv) {
  const char* slash = strrchr(argv[0], '/');
  const bool by_name = strcmp(slash == nullptr ? argv[0] : slash + 1, "setsuna") == 0;
  if (!by_name && (argc < 2 || (strcmp(argv[1], "daemon") != 0 && strcmp(argv[1], "tune") != 0))) return nullptr;
  static setsuna::embed::CommandLine line;
  line = setsuna::embed::parse_command(std::vector<std::string>(argv + 1, argv + argc));
  if (line.help) {
    fputs(line.help_text != nullptr ? line.help_text : setsuna::embed::kCommandHelp, stdout);
    exit(0);
  }
  if (!line.error.empty()) {
    const char* of = line.command == "tune" ? " tune" : "";
    fprintf(stderr, "setsuna%s: %s (see setsuna%s --help)\n", of, line.error.c_str(), of);
    exit(kUsageStatus);
  }
  return &line;
}

// The first line of standard input.
void read_token(setsuna::embed::CommandLine* line) {
  std::string token;
  for (int c = getchar(); c != EOF && c != '\n'; c = getchar()) token += static_cast<char>(c);
  while (!token.empty() && (token.back() == '\r' || token.back() == ' ')) token.pop_back();
  if (token.empty()) {
    fprintf(stderr, "setsuna: --token-stdin: there is no token in standard input\n");
    exit(kUsageStatus);
  }
  line->arguments.push_back("token=" + setsuna::embed::command_line::quoted(token));
}

void take_command_line(const setsuna::embed::CommandLine& line, Arguments* out) {
  const bool tune = line.command == "tune";
  out->mode = tune ? "tune" : "command";
  out->library = line.library.empty() ? nullptr : line.library.c_str();
  if (!tune) out->rest[out->rest_count++] = const_cast<char*>(line.url.c_str());
  for (const std::string& argument : line.arguments) {
    if (out->rest_count < 256) out->rest[out->rest_count++] = const_cast<char*>(argument.c_str());
  }
}

// Descriptors 0-2 must exist, else what R opens next takes their place; standard input is always the null device.
void open_standard_streams() {
  const int null_device = open("/dev/null", O_RDWR);
  for (int fd = 0; fd <= 2; ++fd) {
    if (fd == 0 || fcntl(fd, F_GETFD) < 0) dup2(null_device, fd);
  }
  if (null_device > 2) close(null_device);
}

// The directory two levels above a file: R_HOME of R_HOME/lib/libR.so, the package of setsuna/bin/setsuna-daemon.
bool two_levels_up(const char* file, char* out) {
  char resolved[PATH_MAX];
  if (realpath(file, resolved) == nullptr) return false;
  for (int i = 0; i < 2; ++i) {
    char* slash = strrchr(resolved, '/');
    if (slash == nullptr || slash == resolved) return false;
    *slash = '\0';
  }
  strcpy(out, resolved);
  return true;
}

// Started outside R there is no R_HOME, and with it go LD_LIBRARY_PATH, R_SHARE_DIR and what else R's own start script
// knows. `R CMD` runs a program with all of that set, so we become that program.
void start_within_r(char** argv) {
  if (const char* home = getenv("R_HOME"); home != nullptr && home[0] != '\0') return;
  Dl_info info;
  char home[PATH_MAX], self[PATH_MAX], script[PATH_MAX + 8];
  if (dladdr(reinterpret_cast<void*>(&Rf_initialize_R), &info) == 0 || !two_levels_up(info.dli_fname, home) ||
      realpath("/proc/self/exe", self) == nullptr) {
    fprintf(stderr, "setsuna-daemon: cannot tell where R is: set R_HOME (see `R RHOME`)\n");
    exit(kUsageStatus);
  }
  snprintf(script, sizeof script, "%s/bin/R", home);
  int count = 0;
  while (argv[count] != nullptr) ++count;
  char** command = static_cast<char**>(calloc(static_cast<size_t>(count) + 4, sizeof(char*)));
  if (command == nullptr) exit(kFailedStatus);
  command[0] = script;
  command[1] = const_cast<char*>("CMD");
  command[2] = self;
  for (int i = 1; i < count; ++i) command[i + 2] = argv[i];
  execv(script, command);
  fprintf(stderr, "setsuna-daemon: cannot run %s: %s\n", script, strerror(errno));
  exit(kUsageStatus);
}

// What `R CMD` leaves behind would make R code in tasks believe that a package is being built or checked.
void forget_r_cmd() {
  if (getenv("R_CMD") == nullptr) return;
  unsetenv("R_CMD");
  unsetenv("R_OSTYPE");
}

bool parse(int argc, char** argv, Arguments* out) {
  for (int i = 1; i < argc; ++i) {
    char* word = argv[i];
    if (strcmp(word, "--zygote") == 0) {
      out->mode = "zygote";
    } else if (strncmp(word, "--library=", 10) == 0) {
      out->library = word + 10;
      continue;
    } else if (strncmp(word, "--child=", 8) == 0) {
      out->mode = "child";
    } else if (out->mode == nullptr && word[0] != '-') {
      out->mode = "dial";
    }
    if (out->rest_count == 256) return false;
    out->rest[out->rest_count++] = word;
  }
  return out->mode != nullptr;
}

// loadNamespace("setsuna", lib.loc = library)$.daemon_main is reached as get(".daemon_main", <namespace>).
SEXP daemon_call(const Arguments* arguments, const char* library) {
  SEXP load = PROTECT(Rf_lang3(Rf_install("loadNamespace"), Rf_mkString("setsuna"), Rf_mkString(library)));
  SEXP main = PROTECT(Rf_lang3(Rf_install("get"), Rf_mkString(".daemon_main"), load));
  SEXP rest = PROTECT(Rf_allocVector(STRSXP, arguments->rest_count));
  for (int i = 0; i < arguments->rest_count; ++i) SET_STRING_ELT(rest, i, Rf_mkChar(arguments->rest[i]));
  SEXP call = Rf_lang3(main, Rf_mkString(arguments->mode), rest);
  UNPROTECT(3);
  return call;
}

void start_r(char* program) {
  const char* words[] = {program, "--no-echo", "--no-save", "--no-restore"};
  char* args[4];
  for (int i = 0; i < 4; ++i) args[i] = const_cast<char*>(words[i]);
  Rf_initialize_R(4, args);
  R_Interactive = FALSE;
  setup_Rmainloop();
}

}  // namespace

int main(int argc, char** argv) {
  setsuna::embed::become_viewer(argc, argv);
  static Arguments arguments;
  setsuna::embed::CommandLine* command = command_line(argc, argv);
  if (command == nullptr && !parse(argc, argv, &arguments)) {
    fprintf(stderr,
            "usage: setsuna-daemon URL [ARGUMENT=VALUE ...]\n"
            "  joins the session that listens at URL, as R's setsuna::daemon(URL, ARGUMENT = VALUE, ...)\n");
    return kUsageStatus;
  }
  start_within_r(argv);
  forget_r_cmd();
  if (command != nullptr) {
    if (command->token_from_stdin) read_token(command);
    take_command_line(*command, &arguments);
  }
  open_standard_streams();

  static char library[PATH_MAX];
  if (arguments.library != nullptr) {
    snprintf(library, sizeof library, "%s", arguments.library);
  } else if (two_levels_up("/proc/self/exe", library)) {
    *strrchr(library, '/') = '\0';  // the package's directory lies in its library
  }

  setenv("SETSUNA_CHILD", "1", 1);  // for the startup files; .daemon_main() takes it away
  start_r(argv[0]);
  SEXP call = PROTECT(daemon_call(&arguments, library));
  int failed = 0;
  R_tryEval(call, R_GlobalEnv, &failed);
  UNPROTECT(1);
  Rf_endEmbeddedR(0);
  return failed != 0 ? kErrorStatus : 0;
}
