// `setsuna tune`. What the values may be is checked by tune() in R, which knows.
#pragma once

#include <string>
#include <vector>

#include "command_words.hpp"

namespace setsuna::embed {

inline constexpr char kTuneHelp[] =
    R"(setsuna tune [OPTION ...]
  tries other values of setsuna's knobs on this machine, chooses those that are surely better than the defaults, and
  writes them to a file that daemons(config = "FILE") and the environment variable SETSUNA_CONFIG take. As
  setsuna::tune() in R, whose manual lists the knobs.

  --goal GOAL         what is to be small: latency (of a round trip; the default), throughput (the time of a task in a
                      flood), memory or power
  --quick             fewer and shorter samples: at most two minutes instead of ten
  --out FILE          the file to write; default setsuna.json
  --knobs NAME,NAME   only these knobs; default: those that matter for the goal
  --plot FILE         also a plot of all samples, as FILE.svg or FILE.png
  --library DIR       the R library in which setsuna is installed
  --help              this text

Exit status: 0 done; 1 an error, which standard error names; 64 the command line is wrong.
)";

namespace command_line {

inline std::string quoted_list(const std::string& names) {
  std::string code = "c(";
  for (std::size_t at = 0; at <= names.size();) {
    const std::size_t comma = names.find(',', at) == std::string::npos ? names.size() : names.find(',', at);
    code += (at == 0 ? "" : ",") + quoted(names.substr(at, comma - at));
    at = comma + 1;
  }
  return code + ")";
}

// False: there is no such option.
inline bool set_tune_value(const std::string& name, const std::string& value, CommandLine* out) {
  if (name == "goal" || name == "out" || name == "plot") {
    out->arguments.push_back(name + "=" + quoted(value));
  } else if (name == "knobs") {
    out->arguments.push_back("knobs=" + quoted_list(value));
  } else if (name == "library") {
    out->library = value;
  } else {
    return false;
  }
  return true;
}

inline void take_tune_word(const std::vector<std::string>& words, std::size_t* at, CommandLine* out) {
  const std::string& word = words[*at];
  const std::size_t equals = word.find('=');
  if (word == "--help" || word == "-h") {
    out->help = true;
    out->help_text = kTuneHelp;
  } else if (word == "--quick") {
    out->arguments.emplace_back("quick=TRUE");
  } else if (word.size() < 3 || word.substr(0, 2) != "--") {
    out->error = "tune takes no argument '" + word + "'";
  } else if (CommandLine ignored;
             !set_tune_value(word.substr(2, equals == std::string::npos ? equals : equals - 2), "", &ignored)) {
    out->error = "there is no option '" + word.substr(0, equals) + "'";
  } else if (equals != std::string::npos) {
    set_tune_value(word.substr(2, equals - 2), word.substr(equals + 1), out);
  } else if (*at + 1 == words.size()) {
    out->error = word + " takes a value";
  } else {
    set_tune_value(word.substr(2), words[++*at], out);
  }
}

}  // namespace command_line

// What follows `setsuna tune`.
inline CommandLine parse_tune_command(const std::vector<std::string>& words) {
  CommandLine out;
  out.command = "tune";
  bool named = false;
  for (std::size_t at = 0; at < words.size() && out.error.empty() && !out.help; ++at) {
    named = named || words[at].rfind("--out", 0) == 0;
    command_line::take_tune_word(words, &at, &out);
  }
  if (!named) {
    out.arguments.emplace_back("out='setsuna.json'");
  }
  return out;
}

}  // namespace setsuna::embed
