// The memory orders as they stand in the text of a header, and what its comments say about them.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace weaken_test {

class OrderSource {
 public:
  explicit OrderSource(const std::string& path) {
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
      lines_.push_back(line);
    }
  }

  // The numbers of the lines with an order that could be weaker, one for each order.
  std::vector<std::uint32_t> orders() const {
    static const std::string kToken = "memory_order_";
    std::vector<std::uint32_t> out;
    for (std::uint32_t i = 0; i < lines_.size(); ++i) {
      const std::string code = lines_[i].substr(0, lines_[i].find("//"));
      for (std::size_t at = 0; (at = code.find(kToken, at)) != std::string::npos; at += kToken.size()) {
        if (code.compare(at + kToken.size(), 7, "relaxed") != 0) {
          out.push_back(i + 1);
        }
      }
    }
    return out;
  }

  // Does the comment above the statement that contains line `line`, or one behind its code, say "quivalent without" `part`?
  // "either" is acquire and release, "any" also the acquire of a compare_exchange that fails.
  bool calls_equivalent(std::uint32_t line, const std::string& part) const {
    return comment_says(line, "quivalent without " + part + ":") || comment_says(line, "quivalent without any:") ||
           (part.find("failure") == std::string::npos && comment_says(line, "quivalent without either:"));
  }

 private:
  bool comment_says(std::uint32_t line, const std::string& words) const {
    for (std::uint32_t i = line; i-- > 0 && i < lines_.size();) {
      const std::string& text = lines_[i];
      if (i + 1 < line && !is_comment(text) && ends_statement(text)) {
        return false;
      }
      const std::size_t comment = text.find("//");
      if (comment != std::string::npos && text.find(words, comment) != std::string::npos) {
        return true;
      }
    }
    return false;
  }
  static bool is_comment(const std::string& text) {
    const std::size_t at = text.find_first_not_of(' ');
    return at != std::string::npos && text.compare(at, 2, "//") == 0;
  }
  static bool ends_statement(const std::string& text) {
    const std::string code = text.substr(0, text.find("//"));
    const std::size_t last = code.find_last_not_of(' ');
    return last == std::string::npos || code[last] == ';' || code[last] == '{' || code[last] == '}' ||
           code[last] == ':';
  }

  std::vector<std::string> lines_;
};

}  // namespace weaken_test
