// The page on which a host's R thread sleeps, shared with the daemons of all its profiles.
#pragma once

#include <memory>
#include <new>
#include <string>

#include "runtime/layout.hpp"
#include "runtime/memfd.hpp"

namespace setsuna::runtime {

class HostPageMap {
 public:
  // Host. False with the reason in *error.
  bool create(std::string* error) {
    UniqueFd fd = create_memfd("setsuna-host", kPageBytes, error);
    return fd && map(std::move(fd), error);
  }

  // Daemon. Takes the descriptor.
  bool attach(UniqueFd fd, std::string* error) {
    if (!is_sealed_memfd(fd.get())) {
      *error = "the host page is not a sealed memory file: the host and this daemon are not of one version";
      return false;
    }
    return map(std::move(fd), error);
  }

  HostPage<std::atomic>* page() const { return reinterpret_cast<HostPage<std::atomic>*>(mapping_.base()); }
  int fd() const { return fd_.get(); }

 private:
  bool map(UniqueFd fd, std::string* error) {
    fd_ = std::move(fd);
    mapping_ = map_shared(fd_.get(), kPageBytes, error);  // zero pages: a valid HostPage
    return static_cast<bool>(mapping_);
  }

  UniqueFd fd_;
  Mapping mapping_;
};

}  // namespace setsuna::runtime
