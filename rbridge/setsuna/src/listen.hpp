// Listening at the URLs of a profile. R thread: what goes wrong (a port in use, say) is the caller's error at once.
#pragma once

#include <string>
#include <vector>

#include "profile.hpp"

namespace setsuna::host {

struct Opened {
  std::vector<net::Url> urls;  // with the ports that were taken
  std::vector<LocalListener> local;
};

// Throws std::runtime_error with a message for users; then nothing is left open.
Opened open_listeners(const std::vector<std::string>& urls);

}  // namespace setsuna::host
