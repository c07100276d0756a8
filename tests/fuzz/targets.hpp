// Whatever comes from strangers is fed to these: by libFuzzer (tools/fuzz), and by the test of the corpus.
#pragma once

#include <cstdint>
#include <ostream>
#include <span>
#include <string_view>

namespace setsuna::fuzz {

// Aborts when a rule is broken; crashes are the sanitizers' business.
using Target = void (*)(std::span<const std::uint8_t> input);

void frames(std::span<const std::uint8_t> input);
void handshake(std::span<const std::uint8_t> input);
void http(std::span<const std::uint8_t> input);
void websocket(std::span<const std::uint8_t> input);
void url(std::span<const std::uint8_t> input);

struct Named {
  std::string_view name;
  Target target;
};
inline std::ostream& operator<<(std::ostream& out, const Named& named) { return out << named.name; }
inline constexpr Named kTargets[] = {
    {"frames", frames}, {"handshake", handshake}, {"http", http}, {"websocket", websocket}, {"url", url}};

}  // namespace setsuna::fuzz
