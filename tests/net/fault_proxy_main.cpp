// A FaultProxy for tests in other languages:
//   fault_proxy_main PORT     passes on to PORT of the loopback, and prints its own port
// Then it obeys the lines of its standard input and prints "done" for each. It ends at "end", or where the input ends (which
// for a pipe may be late: all processes that have inherited it must end first):
//   delay MS | limit BYTES_PER_S | limit none | flip WAY AFTER COUNT | drop WAY AFTER COUNT | freeze | cut | connections
// WAY: up (from who has dialled) or down; AFTER: so many bytes from now. `connections` prints their number instead.
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>

#include "tests/net/fault_proxy.hpp"

namespace {

using setsuna::net::Fault;
using setsuna::net::FaultPipe;
using setsuna::net::FaultProxy;

bool strike(FaultProxy& proxy, const std::string& what, std::istream& words) {
  std::string way;
  Fault fault;
  if (!(words >> way >> fault.after >> fault.count) || (way != "up" && way != "down")) {
    return false;
  }
  fault.kind = what == "flip" ? Fault::Kind::kFlip : Fault::Kind::kDrop;
  fault.way = way == "up" ? Fault::Way::kUp : Fault::Way::kDown;
  proxy.strike(fault);
  return true;
}

bool limit(FaultProxy& proxy, std::istream& words) {
  std::string rate;
  words >> rate;
  proxy.limit(rate == "none" ? FaultPipe::kUnlimited : std::strtoull(rate.c_str(), nullptr, 10));
  return !rate.empty();
}

std::string obey(FaultProxy& proxy, const std::string& line) {
  std::istringstream words(line);
  std::string what;
  words >> what;
  std::uint64_t number = 0;
  bool good = true;
  if (what == "delay" && words >> number) {
    proxy.delay(number * 1'000'000);
  } else if (what == "limit") {
    good = limit(proxy, words);
  } else if (what == "flip" || what == "drop") {
    good = strike(proxy, what, words);
  } else if (what == "freeze") {
    proxy.freeze();
  } else if (what == "cut") {
    proxy.cut();
  } else if (what == "connections") {
    return std::to_string(proxy.connections());
  } else {
    good = false;
  }
  return good ? "done" : "not understood: " + line;
}

}  // namespace

int main(int count, char** arguments) {
  const int port = count == 2 ? std::atoi(arguments[1]) : 0;
  if (port <= 0 || port > 65535) {
    std::cerr << "usage: fault_proxy_main PORT\n";
    return 2;
  }
  FaultProxy proxy(static_cast<std::uint16_t>(port));
  std::cout << proxy.port() << std::endl;
  for (std::string line; std::getline(std::cin, line) && line != "end";) {
    std::cout << obey(proxy, line) << std::endl;
  }
  return 0;
}
