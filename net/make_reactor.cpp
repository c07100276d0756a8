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

MadeReactor make_reactor(ReactorChoice choice, const RingOptions& ring, const std::string& asked_by) {
  if (choice == ReactorChoice::kEpoll) {
    return make_epoll("asked for by " + asked_by);
  }
  std::string why;
  if (auto reactor = UringReactor::create(why, ring); reactor != nullptr) {
    return {std::move(reactor), "io_uring (" + why + ")", {}};
  }
  if (choice == ReactorChoice::kIoUring) {
    return {nullptr,
            {},
            asked_by + " asks for io_uring, which does not work here: " + why +
                "; ask for epoll, or for none of both to choose automatically"};
  }
  return make_epoll(why);
}

}  // namespace setsuna::net
