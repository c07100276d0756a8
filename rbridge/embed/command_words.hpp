// What the commands of `setsuna` share: what a command line has asked for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace setsuna::embed {

struct CommandLine {
  std::string command = "daemon";
  bool help = false;
  const char* help_text = nullptr;  // null: of the program as a whole
  std::string error;                // a sentence; else:
  std::string url;
  std::string library;
  bool token_from_stdin = false;
  std::vector<std::string> arguments;  // of the R function behind the command, as NAME=R-CODE
};

namespace command_line {

// An R string.
inline std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out + "'";
}

}  // namespace command_line
}  // namespace setsuna::embed
