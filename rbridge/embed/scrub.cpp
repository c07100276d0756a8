#include "rbridge/embed/scrub.hpp"

#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace setsuna::embed {
namespace {

constexpr std::string_view kName = "token";

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.'; }

// Behind the spaces at `at`.
std::size_t skip_spaces(std::string_view text, std::size_t at) {
  for (;;) {
    if (at < text.size() && text[at] == ' ') {
      ++at;
    } else if (text.substr(at, 3) == "~+~") {
      at += 3;
    } else {
      return at;
    }
  }
}

// Where the value begins whose name ends at `at`; npos: what is there is no name of a value.
std::size_t value_start(std::string_view text, std::size_t at, bool is_option) {
  if (is_option && at < text.size() && text[at] == '\0') {
    return at + 1;  // the next argument
  }
  const std::size_t equals = skip_spaces(text, at);
  return equals < text.size() && text[equals] == '=' ? skip_spaces(text, equals + 1) : std::string_view::npos;
}

}  // namespace

void scrub_tokens(std::span<char> text) {
  const std::string_view all(text.data(), text.size());
  for (std::size_t at = all.find(kName); at != std::string_view::npos; at = all.find(kName, at + 1)) {
    if (at > 0 && is_word(all[at - 1])) {
      continue;
    }
    std::size_t value = value_start(all, at + kName.size(), at >= 2 && all.substr(at - 2, 2) == "--");
    if (value >= all.size()) {
      continue;
    }
    const char quote = all[value] == '\'' || all[value] == '"' ? all[value] : '\0';
    value += quote != '\0' ? 1 : 0;
    while (value < text.size() &&
           (quote != '\0' ? text[value] != quote && text[value] != '\0' : is_word(text[value]))) {
      text[value++] = 'x';
    }
  }
}

void scrub_own_command_line() {
  std::FILE* file = std::fopen("/proc/self/stat", "re");
  if (file == nullptr) {
    return;
  }
  char stat[2048];
  const std::size_t got = std::fread(stat, 1, sizeof(stat) - 1, file);
  std::fclose(file);
  stat[got] = '\0';
  // Fields 48 and 49, counted behind the name (2), which may hold anything.
  const char* at = std::strrchr(stat, ')');
  for (int field = 2; at != nullptr && field < 48; ++field) {
    at = std::strchr(at + 1, ' ');
  }
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  if (at != nullptr && std::sscanf(at, " %ju %ju", &begin, &end) == 2 && begin != 0 && end > begin) {
    scrub_tokens({reinterpret_cast<char*>(begin), end - begin});
  }
}

}  // namespace setsuna::embed
