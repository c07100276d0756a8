// Writes JSON (RFC 8259), compact, in the order of the calls. The caller keeps braces and keys in pairs.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "runtime/json_string.hpp"

namespace setsuna::monitor {

class JsonWriter {
 public:
  void begin_object() { open('{'); }
  void end_object() { close('}'); }
  void begin_array() { open('['); }
  void end_array() { close(']'); }
  void key(std::string_view name) {
    separate();
    quote(name);
    text_ += ':';
    first_ = true;  // the value follows without a comma
  }
  void value(std::string_view text) {
    separate();
    quote(text);
  }
  void value(const std::string& text) { value(std::string_view(text)); }
  void value(const char* text) { value(std::string_view(text)); }
  void value(std::uint64_t number) { put(std::to_string(number)); }
  void value(std::uint32_t number) { put(std::to_string(number)); }
  void value(std::int32_t number) { put(std::to_string(number)); }
  void value(bool truth) { put(truth ? "true" : "false"); }
  // What is no number in JSON is null.
  void value(double number) {
    char buffer[40];
    std::snprintf(buffer, sizeof(buffer), "%.15g", number);
    put(std::isfinite(number) ? buffer : "null");
  }
  void null() { put("null"); }
  template <class T>
  void member(std::string_view name, const T& what) {
    key(name);
    value(what);
  }
  const std::string& text() const { return text_; }

 private:
  void separate() {
    if (!first_) {
      text_ += ',';
    }
    first_ = false;
  }
  void put(std::string_view raw) {
    separate();
    text_ += raw;
  }
  void open(char brace) {
    separate();
    text_ += brace;
    first_ = true;
  }
  void close(char brace) {
    text_ += brace;
    first_ = false;
  }
  void quote(std::string_view text) { runtime::append_json_string(text_, text); }

  std::string text_;
  bool first_ = true;
};

}  // namespace setsuna::monitor
