#include "net/make_reactor.hpp"

#include <cstdlib>
#include <string_view>
#include <utility>

#include "net/epoll_reactor.hpp"
#include "net/uring_reactor.hpp"
#include "net/url.hpp"

namespace setsuna::net {
namespace {

constexpr char kVariable[] = "SETSUNA_REACTOR";

MadeReactor make_epoll(const std::string& reason) {
  std::string why;
  auto reactor = EpollReactor::create(why);
  if (reactor == nullptr) {
    return {nullptr, {}, "cannot start the reactor: " + why + "; raise the limit of open files (ulimit -n)"};
  }
  return {std::move(reactor), "epoll (" + reason + ")", {}};
}

}  // namespace

bool reactor_choice_from_environment(ReactorChoice& choice, std::string& error) {
  const char* value = std::getenv(kVariable);
  const std::string_view text = value == nullptr ? "" : value;
  if (text.empty()) {
    choice = ReactorChoice::kAutomatic;
  } else if (text == "io_uring") {
    choice = ReactorChoice::kIoUring;
  } else if (text == "epoll") {
    choice = ReactorChoice::kEpoll;
  } else {
    error = std::string("the environment variable ") + kVariable + " is " + quote_for_message(text, 40) +
            "; set it to io_uring or epoll, or unset it to choose automatically";
    return false;
  }
  return true;
}

MadeReactor make_reactor(ReactorChoice choice) {
  if (choice == ReactorChoice::kEpoll) {
    return make_epoll(std::string("asked for by ") + kVariable);
  }
  std::string why;
  if (auto reactor = UringReactor::create(why); reactor != nullptr) {
    return {std::move(reactor), "io_uring (" + why + ")", {}};
  }
  if (choice == ReactorChoice::kIoUring) {
    return {nullptr,
            {},
            std::string(kVariable) + " asks for io_uring, which does not work here: " + why +
                "; unset it or set it to epoll"};
  }
  return make_epoll(why);
}

}  // namespace setsuna::net
