// The command line of `setsuna`. Knows no R, and is a header alone: the program links nothing else of ours.
#pragma once

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "command_words.hpp"
#include "tune_command.hpp"

namespace setsuna::embed {

inline constexpr char kCommandHelp[] =
    R"(setsuna daemon URL [OPTION ...]
  makes this process a daemon of the R session that listens at URL: it evaluates that session's tasks, until
  the session ends the connection. As setsuna::daemon() in R, without a start of R's own front end.

  URL is tcp://HOST:PORT, tls+tcp://HOST:PORT, ws://HOST:PORT/PATH or wss://HOST:PORT/PATH; on the same machine
  also abstract://NAME or ipc:///PATH.

  --token TEXT        the secret that the session's daemons have (see launch_remote() in R). It is wiped from the
                      command line, where other users could read it for a moment: better is
  --token-stdin       the first line of standard input is the token
  --tlscert FILE      tls+tcp, wss: the certificates (PEM) by which the session is recognised; without it, those that
                      this system trusts
  --asyncdial         if nobody listens at URL yet, try again, ever more seldom
  --autoexit WHEN     once the connection ends: now (interrupt the task and exit; the default), finish (the task
                      first), never (finish it, then wait for a session at URL and join that), or the number of a
                      signal to raise
  --no-cleanup        leave global variables, attached packages, options and working directory as tasks leave them
  --idletime MS       exit after so many milliseconds without a task
  --walltime MS       exit after so many milliseconds, once the task in hand is done
  --maxtasks N        exit after so many tasks
  --rs N,N,N,N,N,N,N  start from this .Random.seed (kind L'Ecuyer-CMRG)
  --library DIR       the R library in which setsuna is installed
  --help              this text

setsuna tune [OPTION ...]
  finds the configuration that suits this machine (see setsuna tune --help).

Values are written --option VALUE or --option=VALUE. Standard output and error are those of the tasks.
Ctrl-C interrupts the task in hand and does nothing in between; SIGTERM ends the process.

Exit status: 0 the session has ended the connection, or a limit (idletime, walltime, maxtasks) is reached; 1 an error,
which standard error names; 64 the command line is wrong.

setsuna top         shows running sessions, their daemons and queues, as they change (see setsuna top --help)
setsuna status      prints the same once, also as JSON
setsuna metrics     serves the same to Prometheus
)";

namespace command_line {

inline bool is_number(const std::string& text, double least) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0' && !std::isnan(value) && value >= least;
}

inline bool is_whole(const std::string& text) {
  const std::size_t digits = text.empty() || text[0] != '-' ? 0 : 1;
  return text.size() > digits && text.size() < 12 && text.find_first_not_of("0123456789", digits) == std::string::npos;
}

inline std::string limit(const std::string& name, const std::string& value, CommandLine* out) {
  if (value == "Inf" || !is_number(value, 0) || !std::isfinite(std::strtod(value.c_str(), nullptr))) {
    out->error = "--" + name + " takes a number of at least 0, not '" + value + "'";
  }
  return value;
}

inline std::string autoexit(const std::string& value, CommandLine* out) {
  if (value == "now" || value == "TRUE") return "TRUE";
  if (value == "finish" || value == "NA") return "NA";
  if (value == "never" || value == "FALSE") return "FALSE";
  const int number = is_whole(value) ? std::atoi(value.c_str()) : 0;
  if (number < 1 || number > 64) {
    out->error = "--autoexit takes now, finish, never or the number of a signal, not '" + value + "'";
  }
  return value;
}

inline std::string seed(const std::string& value, CommandLine* out) {
  int count = 0;
  std::string code = "c(";
  for (std::size_t at = 0; at <= value.size();) {
    const std::size_t comma = value.find(',', at) == std::string::npos ? value.size() : value.find(',', at);
    const std::string part = value.substr(at, comma - at);
    if (!is_whole(part)) {
      count = -1;
      break;
    }
    code += (count == 0 ? "" : ",") + part;
    ++count;
    at = comma + 1;
  }
  if (count != 7) {
    out->error = "--rs takes 7 whole numbers separated by commas, not '" + value + "'";
  }
  return code + ")";
}

inline bool set_value(const std::string& name, const std::string& value, CommandLine* out) {
  const auto argument = [&](const std::string& code) { out->arguments.push_back(name + "=" + code); };
  if (name == "token" || name == "tlscert") {
    argument(quoted(value));
  } else if (name == "idletime" || name == "walltime" || name == "maxtasks") {
    argument(limit(name, value, out));
  } else if (name == "autoexit") {
    argument(autoexit(value, out));
  } else if (name == "rs") {
    argument(seed(value, out));
  } else if (name == "library") {
    out->library = value;
  } else {
    return false;
  }
  return true;
}

inline bool set_switch(const std::string& name, CommandLine* out) {
  if (name == "help") {
    out->help = true;
  } else if (name == "token-stdin") {
    out->token_from_stdin = true;
  } else if (name == "asyncdial") {
    out->arguments.emplace_back("asyncdial=TRUE");
  } else if (name == "no-cleanup") {
    out->arguments.emplace_back("cleanup=FALSE");
  } else {
    return false;
  }
  return true;
}

// `words[*at]` is an option; its value may be the next word.
inline void take_option(const std::vector<std::string>& words, std::size_t* at, CommandLine* out) {
  const std::string& word = words[*at];
  const std::size_t equals = word.find('=');
  const std::string name = word == "-h" ? "help" : word.substr(2, equals == std::string::npos ? equals : equals - 2);
  const bool has_value = equals != std::string::npos;
  if (!has_value && set_switch(name, out)) {
    return;
  }
  CommandLine ignored;
  if (!set_value(name, "", &ignored)) {
    out->error = has_value && set_switch(name, &ignored) ? "--" + name + " takes no value"
                                                         : "there is no option '" + word.substr(0, equals) + "'";
  } else if (has_value) {
    set_value(name, word.substr(equals + 1), out);
  } else if (*at + 1 == words.size()) {
    out->error = "--" + name + " takes a value";
  } else {
    set_value(name, words[++*at], out);
  }
}

}  // namespace command_line

// What follows `setsuna daemon`.
inline CommandLine parse_daemon_command(const std::vector<std::string>& words) {
  CommandLine out;
  for (std::size_t at = 0; at < words.size() && out.error.empty() && !out.help; ++at) {
    if (words[at].size() > 1 && words[at][0] == '-' && (words[at][1] == '-' || words[at] == "-h")) {
      command_line::take_option(words, &at, &out);
    } else if (out.url.empty()) {
      out.url = words[at];
    } else {
      out.error = "one URL is enough: '" + words[at] + "' is one too many";
    }
  }
  if (out.error.empty() && !out.help && out.url.empty()) {
    out.error = "a URL is needed: where the session listens";
  }
  return out;
}

// All words behind the name of the program.
inline CommandLine parse_command(std::vector<std::string> words) {
  CommandLine out;
  const std::string command = words.empty() ? "" : words[0];
  if (command == "daemon" || command == "tune") {
    words.erase(words.begin());
    return command == "tune" ? parse_tune_command(words) : parse_daemon_command(words);
  }
  out.help = !words.empty() && (words[0] == "--help" || words[0] == "-h" || words[0] == "help");
  if (!out.help) {
    out.error = words.empty() ? "a command is needed" : "there is no command '" + words[0] + "'";
  }
  return out;
}

}  // namespace setsuna::embed
