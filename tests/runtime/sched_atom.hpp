// What the code under test is instantiated with in place of std::atomic and of the system's futex, and what test programs
// use for their plain data and for the host's mutex.
#pragma once

#include <atomic>
#include <cstdint>
#include <source_location>

#include "tests/runtime/sched_engine.hpp"

namespace sched {

// std::atomic's interface; as large as T, so that structures of shared memory keep their layout.
template <class T>
class Atom {
 public:
  using Order = std::memory_order;
  using Where = std::source_location;

  Atom() = default;
  explicit Atom(T value) : value_(value) {}
  Atom(const Atom&) = delete;
  Atom& operator=(const Atom&) = delete;

  T load(Order order, Where where = Where::current()) const {
    return live() ? engine().load(&value_, order, where) : value_;
  }
  void store(T value, Order order, Where where = Where::current()) {
    if (live()) {
      engine().store(&value_, value, order, where);
    } else {
      value_ = value;
    }
  }
  T exchange(T value, Order order, Where where = Where::current()) {
    return modify([value](T) { return value; }, order, where, "exchange");
  }
  T fetch_add(T value, Order order, Where where = Where::current()) {
    return modify([value](T old) { return static_cast<T>(old + value); }, order, where, "fetch_add");
  }
  T fetch_sub(T value, Order order, Where where = Where::current()) {
    return modify([value](T old) { return static_cast<T>(old - value); }, order, where, "fetch_sub");
  }
  T fetch_or(T value, Order order, Where where = Where::current()) {
    return modify([value](T old) { return static_cast<T>(old | value); }, order, where, "fetch_or");
  }
  T fetch_and(T value, Order order, Where where = Where::current()) {
    return modify([value](T old) { return static_cast<T>(old & value); }, order, where, "fetch_and");
  }
  bool compare_exchange_strong(T& expected, T desired, Order success, Order failure, Where where = Where::current()) {
    if (live()) {
      return engine().compare_exchange(&value_, &expected, desired, success, failure, where);
    }
    if (value_ == expected) {
      value_ = desired;
      return true;
    }
    expected = value_;
    return false;
  }
  bool compare_exchange_weak(T& expected, T desired, Order success, Order failure, Where where = Where::current()) {
    return compare_exchange_strong(expected, desired, success, failure, where);
  }

  // The newest value, unseen by the scheduler: for invariants.
  T peek() const { return value_; }
  const void* address() const { return &value_; }

 private:
  static Engine& engine() { return Engine::get(); }
  static bool live() { return engine().running(); }
  template <class F>
  T modify(F&& change, Order order, const Where& where, const char* op) {
    if (live()) {
      return engine().modify(&value_, change, order, where, op);
    }
    const T before = value_;
    value_ = change(before);
    return before;
  }

  T value_{};
};
static_assert(sizeof(Atom<std::uint64_t>) == 8 && sizeof(Atom<std::uint32_t>) == 4);

// runtime/futex.hpp's interface: sleepers are threads of the scheduler, so a lost wake is a deadlock that it sees.
struct Futex {
  static constexpr std::uint64_t kNever_ns = 4'000'000'000'000'000'000;

  static WakeReason wait_until(Atom<std::uint32_t>* word, std::uint32_t expected, std::uint64_t deadline_ns,
                               std::source_location where = std::source_location::current()) {
    return Engine::get().futex_wait(static_cast<const std::uint32_t*>(word->address()), expected,
                                    deadline_ns < kNever_ns, where);
  }
  static int wake(Atom<std::uint32_t>* word, int count, std::source_location where = std::source_location::current()) {
    return Engine::get().futex_wake(static_cast<const std::uint32_t*>(word->address()), count, where);
  }
};

// Plain data, checked for races.
class Plain {
 public:
  void name(const char* name) { name_ = name; }
  std::uint64_t read() {
    Engine::get().plain_read(state_, name_);
    return state_.value;
  }
  void write(std::uint64_t value) { Engine::get().plain_write(state_, value, name_); }
  std::uint64_t peek() const { return state_.value; }
  void reset(std::uint64_t value = 0) {
    state_ = PlainState{};
    state_.value = value;
  }

 private:
  PlainState state_;
  const char* name_ = "plain data";
};

// The host's private mutex. `guarded` hashes the data that it guards: a part of the program's state.
class Mutex {
 public:
  void reset(std::function<std::uint64_t()> guarded) {
    held_ = false;
    view_ = View{};
    Engine::get().also_view(&view_);
    guarded_ = std::move(guarded);
    hash_ = 0;
  }
  void lock() {
    Engine& engine = Engine::get();
    static const char* const kWhat = "lock";
    const std::function<bool()> is_free = [this] { return !held_; };
    engine.block_until(is_free, kWhat);
    held_ = true;
    engine.view().join(view_);
    engine.absorb(hash_);
  }
  void unlock() {
    Engine& engine = Engine::get();
    held_ = false;
    view_ = engine.view();
    const std::uint64_t before = hash_;
    hash_ = guarded_();
    engine.memory_changed(this, before, hash_);
  }
  bool held() const { return held_; }

 private:
  bool held_ = false;
  View view_;
  std::function<std::uint64_t()> guarded_;
  std::uint64_t hash_ = 0;
};

}  // namespace sched
