// What the reactor gives back: tokens, completions and the handlers that receive them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace setsuna::net {

// Names one started operation: table index and the generation of that table entry, so a token that outlives its
// operation is recognised and ignored. The default token names nothing.
struct Token {
  std::uint64_t value = 0;

  explicit constexpr operator bool() const noexcept { return value != 0; }
  friend constexpr bool operator==(Token, Token) noexcept = default;
};

struct Completion {
  Token token;
  std::int64_t result = 0;          // per operation, see Reactor; negative: -errno
  bool more = false;                // false: the last completion of this operation, its token is dead
  std::span<const std::byte> data;  // recv only; valid during the call, copy what must stay
};

// A function and its context: two words, no allocation. The context must outlive the operation, or the operation be
// ended with Reactor::forget. Handlers do not throw.
class Handler {
 public:
  using Function = void (*)(void* context, const Completion& completion);

  constexpr Handler() noexcept = default;
  constexpr Handler(Function function, void* context) noexcept : function_(function), context_(context) {}

  // Handler::to<&Link::on_bytes>(link)
  template <auto Method, class T>
  static constexpr Handler to(T* object) noexcept {
    return Handler([](void* context, const Completion& c) { (static_cast<T*>(context)->*Method)(c); }, object);
  }

  explicit constexpr operator bool() const noexcept { return function_ != nullptr; }

  void operator()(const Completion& completion) const {
    if (function_ != nullptr) {
      function_(context_, completion);
    }
  }

 private:
  Function function_ = nullptr;
  void* context_ = nullptr;
};

}  // namespace setsuna::net
