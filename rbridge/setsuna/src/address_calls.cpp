// What R/urls.R reaches: addresses of this machine's network interfaces.

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstring>

#include "glue.hpp"

namespace {

constexpr int kMaxAddresses = 256;

struct Address {
  char interface[IF_NAMESIZE];
  char text[INET6_ADDRSTRLEN];
  bool six;
};

Address addresses[kMaxAddresses];

// Of interfaces that are up; link-local IPv6 addresses are left out, which need a scope to be of use.
int collect_addresses() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) {
    return -1;
  }
  int count = 0;
  for (const ifaddrs* entry = all; entry != nullptr && count < kMaxAddresses; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0) {
      continue;
    }
    Address& to = addresses[count];
    const void* from = nullptr;
    const int family = entry->ifa_addr->sa_family;
    if (family == AF_INET) {
      from = &reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr;
    } else if (family == AF_INET6) {
      const auto* six = &reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr)->sin6_addr;
      from = IN6_IS_ADDR_LINKLOCAL(six) ? nullptr : six;
    }
    if (from == nullptr || ::inet_ntop(family, from, to.text, sizeof(to.text)) == nullptr) {
      continue;
    }
    std::snprintf(to.interface, sizeof(to.interface), "%s", entry->ifa_name);
    to.six = family == AF_INET6;
    ++count;
  }
  ::freeifaddrs(all);
  return count;
}

// A named character vector: addresses by interface, IPv4 first, IPv6 in brackets.
SEXP interface_addresses() {
  const int count = collect_addresses();
  if (count < 0) {
    Rf_error("the network interfaces cannot be listed: %s", std::strerror(errno));
  }
  SEXP out = PROTECT(Rf_allocVector(STRSXP, count));
  SEXP names = PROTECT(Rf_allocVector(STRSXP, count));
  int at = 0;
  for (int pass = 0; pass < 2; ++pass) {
    for (int i = 0; i < count; ++i) {
      if (addresses[i].six != (pass == 1)) {
        continue;
      }
      char text[INET6_ADDRSTRLEN + 2];
      std::snprintf(text, sizeof(text), addresses[i].six ? "[%s]" : "%s", addresses[i].text);
      SET_STRING_ELT(out, at, Rf_mkChar(text));
      SET_STRING_ELT(names, at++, Rf_mkChar(addresses[i].interface));
    }
  }
  Rf_setAttrib(out, R_NamesSymbol, names);
  UNPROTECT(2);
  return out;
}

}  // namespace

extern const R_CallMethodDef kAddressEntries[] = {
    SETSUNA_ENTRY(interface_addresses, interface_addresses, 0),
    {nullptr, nullptr, 0},
};
