#include "rbridge/embed/link_greeting.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "rbridge/embed/build_id.hpp"

namespace setsuna::embed {

using dispatch::LinkGreeting;

LinkGreeting own_greeting() {
  LinkGreeting greeting;
  greeting.build_id[0] = build_id().low;
  greeting.build_id[1] = build_id().high;
  std::snprintf(greeting.package_version, sizeof(greeting.package_version), "%s", kPackageVersion);
  std::snprintf(greeting.r_version, sizeof(greeting.r_version), "%s.%s", R_MAJOR, R_MINOR);
  greeting.pid = ::getpid();
  ::gethostname(greeting.host, sizeof(greeting.host) - 1);
  return greeting;
}

std::string compare_greeting(std::span<const std::byte> peer, const std::string& who) {
  const LinkGreeting own = own_greeting();
  LinkGreeting other;
  if (peer.size() < sizeof(other)) {
    return who + " is not a setsuna of this version: install the same on both sides";
  }
  std::memcpy(&other, peer.data(), sizeof(other));
  if (other.byte_order != own.byte_order) {
    return who + " has another byte order: setsuna connects machines of one byte order";
  }
  other.package_version[sizeof(other.package_version) - 1] = '\0';
  other.r_version[sizeof(other.r_version) - 1] = '\0';
  if (other.link_version != own.link_version || std::memcmp(other.build_id, own.build_id, sizeof(own.build_id)) != 0) {
    return who + " runs setsuna " + other.package_version + " with R " + other.r_version + ", this side setsuna " +
           own.package_version + " with R " + own.r_version + ": install the same on both sides";
  }
  return "";
}

}  // namespace setsuna::embed
