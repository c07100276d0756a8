// Numbers as people read them, in little room. Unknown ones are "-".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace setsuna::monitor {

std::string format_count(std::uint64_t value);    // 1,234,567
std::string format_daemons(std::uint32_t count);  // 1 daemon, 2 daemons
std::string format_rate(double per_second);       // 12.3, 1,234
std::string format_bytes(std::uint64_t bytes);    // 512 B, 1.5 MB (powers of 10)
std::string format_duration(std::uint64_t ns);    // 850 ns, 14.2 us, 3.1 ms, 12.0 s
std::string format_uptime(double seconds);        // 12s, 5m03s, 3h07m, 2d04h
std::string format_percent(double percent);       // 97
// R's command line as it was typed: without the path of R's executable and the options that Rscript adds.
std::string short_command(std::string_view command);
// Control bytes would steer the terminal: they become '?'. So does what is no UTF-8.
std::string printable(std::string_view text);
// Exactly so many columns (a character a column), cut or filled with spaces; `right`: filled on the left.
std::string fit(std::string_view text, std::size_t width, bool right = false);
// Lines of at most so many bytes, broken at spaces where there are some; for text of ASCII. No text is one empty line.
std::vector<std::string> wrap(std::string_view text, std::size_t width);

}  // namespace setsuna::monitor
