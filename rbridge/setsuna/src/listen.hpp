// Listening at the URLs of a profile. R thread: what goes wrong (a port in use, say) is the caller's error at once.
#pragma once

#include <string>
#include <vector>

#include "profile.hpp"

namespace setsuna::host {

struct Opened {
  std::vector<net::Url> urls;  // with the ports that were taken
  std::vector<LocalListener> local;
  std::vector<std::unique_ptr<NetDoor>> doors;
};

// For connections from the network.
struct Access {
  std::string token;  // empty: everybody may come in
  // Each PEM text or a file. No certificate: no URL is secure. No key: it is with the certificate.
  std::string certificate;
  std::string key;
  bool has_pass = false;  // the key is encrypted
  std::string pass;
};

// Throws std::runtime_error with a message for users; then nothing is left open.
Opened open_listeners(const std::vector<std::string>& urls, const Access& access);

}  // namespace setsuna::host
