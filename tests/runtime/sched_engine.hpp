// The deterministic scheduler: the threads of a program are fibers, one runs at a time, and before each access to an
// atomic object the engine decides who goes on. All decisions of an execution are in `path`; running the program
// again along a path repeats the execution exactly. sched_explore.hpp walks the tree of paths.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <source_location>
#include <string>
#include <vector>

#include "tests/runtime/sched_fiber.hpp"
#include "tests/runtime/sched_memory.hpp"
#include "tests/runtime/sched_mutation.hpp"
#include "tests/runtime/sched_state_set.hpp"

namespace sched {

inline constexpr int kAny = 255;  // preemptions: no bound

// How far an exploration goes.
struct Bounds {
  int preemptions = 2;  // switches away from a thread that could go on
  bool races = true;    // plain data is watched (costs states: who accessed what when)
  int stale_reads = 0;  // loads that return an older value than the newest; 0: sequentially consistent
  int kills = 0;        // victims dropped for ever
  int timeouts = 0;     // timed waits that end by themselves
  std::uint64_t executions = ~std::uint64_t{0};
};

// The program under test. Rebuilt by begin() for each execution.
class Program {
 public:
  virtual ~Program() = default;
  virtual void begin() = 0;                // resets memory, spawns threads
  virtual void after_step() {}             // invariants; calls fail()
  virtual void at_end() {}                 // nothing is enabled any more; calls fail()
  virtual void on_kill(int /*thread*/) {}  // a victim has been dropped
  virtual std::string name_of(const void* /*address*/) { return {}; }
};

enum class WakeReason : std::uint8_t { kNone, kWoken, kTimedOut, kInterrupted };

class Engine {
 public:
  static Engine& get() {
    static Engine engine;
    return engine;
  }

  // --- For programs ------------------------------------------------------------------------------------------

  // A new thread; from begin() or from a running thread (it then starts after what its parent did).
  int spawn(const char* name, std::function<void()> body, bool victim = false);

  [[gnu::cold]] void fail(const std::string& message) {
    if (!failed_) {
      failed_ = true;
      message_ = message;
    }
    if (in_fiber_) {
      leave(End::kFailed);
    }
  }

  // Blocks until `ready` (evaluated by the scheduler, must not touch atomics).
  void block_until(const std::function<bool()>& ready, const char* what) {
    Thread& self = *current_;
    do {
      self.until = &ready;
      decide();
      self.until = nullptr;
      run_signal(self);
    } while (!ready());
    if (trace_out_ != nullptr) {
      trace_line(std::string(self.name) + ": " + what);
    }
  }
  // A scheduling point of the program's own.
  void pause(const char* what) {
    static const std::function<bool()> kAlways = [] { return true; };
    block_until(kAlways, what);
  }

  // While true, the running thread is not interrupted as long as it can go on.
  void uninterrupted(bool on) { uninterrupted_ = on; }

  // Everything that `thread` did happens before what the caller does next (its death was reported, a message arrived).
  void observe(int thread) {
    current_->view.join(threads_[thread].view);
    absorb(*current_, threads_[thread].hash);
  }
  // Runs `handler` in `thread` before its next step, as a signal would.
  void signal(int thread, std::function<void()> handler) {
    Thread& target = threads_[thread];
    if (target.state == State::kFinished || target.state == State::kDead) {
      return;
    }
    target.signal = std::move(handler);
    target.signal_view = current_->view;
  }
  void kill(int thread) { bury(thread); }
  bool alive(int thread) const {
    return threads_[thread].state == State::kRunnable || threads_[thread].state == State::kAsleep;
  }
  bool asleep(int thread) const {
    return threads_[thread].state == State::kAsleep && threads_[thread].reason == WakeReason::kNone;
  }
  bool can_go_on(int thread) const { return enabled(threads_[thread]); }
  // What a thread learned outside atomics (a host-private choice): part of its state.
  void absorb(std::uint64_t value) { absorb(*current_, value); }
  // The thread is at the point of its program that `local_state` names, with all that it remembers in it: executions that
  // differ only in how it came here are the same from here on.
  void forget_history(std::uint64_t local_state) { current_->hash = mix(0x5EED, local_state); }
  int self() const { return current_ == &driver_ ? -1 : static_cast<int>(current_ - threads_.data()); }
  bool running() const { return running_; }
  // Objects in [from, to) are constants or private counters.
  void quiet(const void* from, const void* to) { quiet_.emplace_back(from, to); }

  // --- For Atom, Futex, Mutex, Plain -------------------------------------------------------------------------

  using Where = std::source_location;

  template <class T>
  T load(const T* cell, std::memory_order order, const Where& where) {
    order = mutation().order(order, where, 0);
    Location& place = arrive(cell, "load", where);
    if (place.quiet) {
      return *cell;
    }
    const std::size_t index = choose_message(place, [](std::uint64_t) { return true; });
    const auto value = static_cast<T>(place.history[index].value);
    read_message(place, index, is_acquire(order));
    trace(place, value, order, place.history.size() - 1 - index);
    return value;
  }

  template <class T>
  void store(T* cell, T value, std::memory_order order, const Where& where) {
    order = mutation().order(order, where, 0);
    Location& place = arrive(cell, "store", where);
    if (place.quiet) {
      *cell = value;
      return;
    }
    const std::size_t later = choose_place(place);
    if (later == 0) {
      *cell = value;
      write_message(place, value, is_release(order), nullptr);
    } else {
      insert_message(place, place.history.size() - later, value, is_release(order));
    }
    trace(place, value, order, later, later == 0 ? nullptr : "store (overwritten)");
  }

  template <class T, class F>
  T modify(T* cell, F&& change, std::memory_order order, const Where& where, const char* op) {
    order = mutation().order(order, where, 0);
    Location& place = arrive(cell, op, where);
    const T before = *cell;
    *cell = change(before);
    if (place.quiet) {
      return before;
    }
    modify_message(place, *cell, order);
    trace(place, *cell, order, 0);
    return before;
  }

  template <class T>
  bool compare_exchange(T* cell, T* expected, T desired, std::memory_order success, std::memory_order failure,
                        const Where& where) {
    success = mutation().order(success, where, 0);
    failure = mutation().order(failure, where, 1);
    Location& place = arrive(cell, "cas", where);
    const std::uint64_t wanted = *expected;
    const std::size_t newest = place.history.size() - 1;
    // It succeeds only on the newest value. Failing, it may have read any older one that is not the expected.
    const std::size_t index = choose_message(place, [wanted](std::uint64_t value) { return value != wanted; });
    if (index == newest && *cell == *expected) {
      *cell = desired;
      modify_message(place, desired, success);
      trace(place, desired, success, 0);
      return true;
    }
    *expected = static_cast<T>(place.history[index].value);
    read_message(place, index, is_acquire(failure));
    trace(place, *expected, failure, newest - index, "cas (fails)");
    return false;
  }

  WakeReason futex_wait(const std::uint32_t* cell, std::uint32_t expected, bool timed, const Where& where);
  int futex_wake(const std::uint32_t* cell, int count, const Where& where);

  void plain_read(PlainState& plain, const char* name);
  void plain_write(PlainState& plain, std::uint64_t value, const char* name);
  View& view() { return current_->view; }
  void also_view(View* view) { other_views_.push_back(view); }  // kept by a mutex, for this execution
  // Other memory of the program, whose hash was `before` and now is `after`.
  void memory_changed(const void* object, std::uint64_t before, std::uint64_t after) {
    const auto key = reinterpret_cast<std::uintptr_t>(object);
    memory_hash_ ^= mix(key, before) ^ mix(key, after);
  }

  // --- For the explorer --------------------------------------------------------------------------------------

  enum class End : std::uint8_t { kNothingEnabled, kPruned, kFailed };
  struct Option {
    enum class Kind : std::uint8_t { kRun, kTimeout, kKill, kRead } kind;
    std::uint8_t argument;
    std::uint8_t preempts;
  };
  struct Choice {
    std::array<Option, 2 * kMaxThreads + 2> options;
    std::uint8_t count = 0;
    std::uint8_t taken = 0;
  };
  // Picks an option at a new choice (random walks); by default the first.
  using Picker = std::function<std::uint8_t(const Choice&)>;

  End run(Program& program, const Bounds& bounds, Picker picker = nullptr);
  std::vector<Choice>& path() { return path_; }
  StateSet& seen() { return seen_; }
  void use_states(bool on) { prune_ = on; }
  void trace_to(std::string* out) { trace_out_ = out; }
  const std::string& message() const { return message_; }
  std::uint64_t steps() const { return steps_total_; }

 private:
  enum class State : std::uint8_t { kUnused, kRunnable, kAsleep, kFinished, kDead };

  struct Thread {
    Fiber fiber;
    const char* name = "";
    std::function<void()> body;
    bool victim = false;
    State state = State::kUnused;
    std::uint64_t hash = 0;  // everything it has learned so far: with the program it determines its local state
    View view;
    const std::function<bool()>* until = nullptr;
    const void* futex = nullptr;
    bool timed = false;
    WakeReason reason = WakeReason::kNone;
    std::function<void()> signal;
    View signal_view;
  };

  static constexpr std::uint64_t kMaxSteps = 20'000;  // of one execution: more is a livelock

  static bool is_acquire(std::memory_order order) {
    return order == std::memory_order_acquire || order == std::memory_order_acq_rel ||
           order == std::memory_order_seq_cst;
  }
  static bool is_release(std::memory_order order) {
    return order == std::memory_order_release || order == std::memory_order_acq_rel ||
           order == std::memory_order_seq_cst;
  }
  static void absorb(Thread& thread, std::uint64_t value) { thread.hash = mix(thread.hash, value); }
  static void thread_main();

  bool enabled(const Thread& thread) const {
    switch (thread.state) {
      case State::kRunnable: return thread.signal || thread.until == nullptr || (*thread.until)();
      case State::kAsleep: return thread.reason != WakeReason::kNone || thread.signal;
      default: return false;
    }
  }

  void decide();
  Choice& next_choice();
  void list_options(Choice& choice) const;
  std::uint64_t state_key() const;
  void bury(int thread);
  void run_signal(Thread& self);
  [[noreturn]] void leave(End end);
  void reset(const Bounds& bounds);

  // Scheduling point, then the location with its present value.
  template <class T>
  Location& arrive(const T* cell, const char* op, const Where& where) {
    Location& place = locate(cell);
    if (place.quiet) {
      return place;
    }
    decide();
    run_signal(*current_);
    if (place.history.empty()) {
      place.history.emplace_back();
      place.history[0].value = *cell;
      initial_[place.id] = *cell;
    }
    trace_next_ = op;
    where_ = where;
    return place;
  }
  Location& locate(const void* address);
  bool is_quiet(const void* address) const;
  template <class Accept>
  std::size_t choose_message(const Location& place, Accept&& accept);
  std::size_t make_choice(Choice& choice);
  std::size_t choose_place(const Location& place);
  template <class F>
  void each_view(F&& visit);
  std::uint64_t history_hash(const Location& place) const;
  void insert_message(Location& place, std::size_t index, std::uint64_t value, bool release);
  void read_message(Location& place, std::size_t index, bool acquire);
  void write_message(Location& place, std::uint64_t value, bool release, const View* sequence);
  void replace_only(Location& place, std::uint64_t value);
  void modify_message(Location& place, std::uint64_t value, std::memory_order order);
  bool weak() const { return bounds_.stale_reads > 0; }

  void trace(const Location& place, std::uint64_t value, std::memory_order order, std::size_t age,
             const char* op = nullptr);
  void trace_line(const std::string& text);

  Program* program_ = nullptr;
  Bounds bounds_;
  Picker picker_;
  Fiber main_;
  std::array<Thread, kMaxThreads> threads_;
  Thread* current_ = nullptr;
  Thread driver_;          // stands in as `current` until the first thread runs
  bool running_ = false;   // atoms go through the scheduler
  bool in_fiber_ = false;  // a failure can leave the execution
  bool failed_ = false;
  bool uninterrupted_ = false;
  End end_ = End::kNothingEnabled;
  std::string message_;

  std::vector<Choice> path_;
  std::size_t cursor_ = 0;
  int preemptions_left_ = 0, stale_left_ = 0, kills_left_ = 0, timeouts_left_ = 0;
  std::uint64_t steps_ = 0, steps_total_ = 0;
  StateSet seen_;
  bool prune_ = true;

  std::array<Location, kMaxLocations> places_;
  std::array<std::uint64_t, kMaxLocations> initial_{};
  std::uint16_t place_count_ = 0;
  struct Bucket {
    const void* address = nullptr;
    std::uint64_t execution = 0;
    std::uint16_t id = 0;
  };
  std::array<Bucket, 256> buckets_;
  std::uint64_t execution_ = 0;
  Location quiet_place_{.quiet = true};
  std::vector<std::pair<const void*, const void*>> quiet_;
  std::vector<View*> other_views_;
  std::uint64_t memory_hash_ = 0;

  std::string* trace_out_ = nullptr;
  const char* trace_next_ = "";
  Where where_;
};

// --- Running an execution --------------------------------------------------------------------------------------

inline int Engine::spawn(const char* name, std::function<void()> body, bool victim) {
  for (int i = 0; i < kMaxThreads; ++i) {
    Thread& thread = threads_[i];
    if (thread.state != State::kUnused) {
      continue;
    }
    thread.name = name;
    thread.body = std::move(body);
    thread.victim = victim;
    thread.state = State::kRunnable;
    thread.hash = mix(0xB0D1, static_cast<std::uint64_t>(i));
    thread.view = running_ ? current_->view : View{};
    if (running_) {
      absorb(thread, current_->hash);
    }
    thread.until = nullptr;
    thread.reason = WakeReason::kNone;
    thread.signal = nullptr;
    thread.fiber.prepare(&Engine::thread_main);
    return i;
  }
  std::fprintf(stderr, "sched: too many threads\n");
  std::abort();
}

inline void Engine::thread_main() {
  Engine& engine = get();
  Thread& self = *engine.current_;
  self.body();
  self.state = State::kFinished;
  absorb(self, 0xF1);
  engine.decide();
  std::abort();  // a finished thread is never chosen
}

inline void Engine::reset(const Bounds& bounds) {
  bounds_ = bounds;
  preemptions_left_ = bounds.preemptions;
  stale_left_ = bounds.stale_reads;
  kills_left_ = bounds.kills;
  timeouts_left_ = bounds.timeouts;
  for (Thread& thread : threads_) {
    thread.state = State::kUnused;
  }
  place_count_ = 0;
  ++execution_;
  memory_hash_ = 0;
  cursor_ = 0;
  steps_ = 0;
  failed_ = false;
  uninterrupted_ = false;
  end_ = End::kNothingEnabled;
  quiet_.clear();
  other_views_.clear();
}

inline Engine::End Engine::run(Program& program, const Bounds& bounds, Picker picker) {
  program_ = &program;
  picker_ = std::move(picker);
  reset(bounds);
  program.begin();
  current_ = &driver_;
  running_ = true;
  in_fiber_ = true;
  // The first decision runs on a fiber of its own, so that leave() has somewhere to come back to.
  static Fiber starter;
  starter.prepare([] {
    Engine& engine = get();
    engine.decide();
    std::abort();
  });
  Fiber::swap(main_, starter);
  running_ = false;
  if (end_ == End::kNothingEnabled && !failed_) {
    static Fiber checker;
    checker.prepare([] {
      Engine& engine = get();
      engine.program_->at_end();
      engine.leave(engine.failed_ ? End::kFailed : End::kNothingEnabled);
    });
    Fiber::swap(main_, checker);
  }
  in_fiber_ = false;
  steps_total_ += steps_;
  return failed_ ? End::kFailed : end_;
}

inline void Engine::leave(End end) {
  end_ = end;
  static Fiber nowhere;  // never resumed
  Fiber::swap(nowhere, main_);
  std::abort();
}

inline void Engine::decide() {
  Thread* self = current_;
  if (++steps_ > kMaxSteps) {
    fail("livelock: the execution does not end");
  }
  absorb(*self, 0xA);  // one step further, whatever the last one did
  for (;;) {
    const bool fresh = cursor_ >= path_.size();
    if (fresh) {
      program_->after_step();
    }
    const Choice& choice = next_choice();
    const Option option = choice.options[choice.taken];
    preemptions_left_ -= option.preempts;
    if (option.kind == Option::Kind::kKill) {
      --kills_left_;
      bury(option.argument);
      continue;
    }
    Thread& next = threads_[option.argument];
    if (option.kind == Option::Kind::kTimeout) {
      --timeouts_left_;
      next.reason = WakeReason::kTimedOut;
    }
    if (&next != self) {
      current_ = &next;
      Fiber::swap(self->fiber, next.fiber);
    }
    return;
  }
}

inline Engine::Choice& Engine::next_choice() {
  if (cursor_ < path_.size()) {
    return path_[cursor_++];
  }
  Choice choice;
  list_options(choice);
  if (choice.count == 0) {
    leave(End::kNothingEnabled);
  }
  if (choice.count > 1) {
    if (prune_ && !picker_ &&
        !seen_.insert(state_key(), static_cast<std::uint8_t>(preemptions_left_ == kAny ? 1 : preemptions_left_ + 1))) {
      leave(End::kPruned);
    }
    if (picker_) {
      choice.taken = picker_(choice);
    }
  }
  path_.push_back(choice);
  return path_[cursor_++];
}

inline void Engine::list_options(Choice& choice) const {
  const bool bounded = bounds_.preemptions != kAny;
  const int self = this->self();
  const bool may_go_on = enabled(*current_);
  const auto add = [&choice](Option::Kind kind, int argument, bool preempts) {
    choice.options[choice.count++] = {kind, static_cast<std::uint8_t>(argument), static_cast<std::uint8_t>(preempts)};
  };
  if (may_go_on) {
    add(Option::Kind::kRun, self, false);
    if (uninterrupted_) {
      return;
    }
  }
  const bool costs = bounded && may_go_on;
  if (!costs || preemptions_left_ > 0) {
    for (int i = 0; i < kMaxThreads; ++i) {
      const Thread& thread = threads_[i];
      if (i != self && enabled(thread)) {
        add(Option::Kind::kRun, i, costs);
      } else if (timeouts_left_ > 0 && thread.state == State::kAsleep && thread.timed &&
                 thread.reason == WakeReason::kNone) {
        add(Option::Kind::kTimeout, i, costs);
      }
    }
  }
  if (kills_left_ == 0) {
    return;
  }
  // With a bound: right after the victim's own step only; what happens between its last step and its death does not
  // involve it. Without: always, since the state does not say whose step was the last.
  for (int i = 0; i < kMaxThreads; ++i) {
    if (threads_[i].victim && alive(i) && (!bounded || i == self)) {
      add(Option::Kind::kKill, i, false);
    }
  }
}

inline std::uint64_t Engine::state_key() const {
  std::uint64_t key = memory_hash_;
  for (const Thread& thread : threads_) {
    if (thread.state == State::kUnused) {
      continue;
    }
    key = mix(key, thread.hash + static_cast<std::uint64_t>(thread.state));
    key = mix(key, (bounds_.races ? thread.view.hash() : 0) + static_cast<std::uint64_t>(thread.reason) +
                       (thread.signal ? 16 : 0));
  }
  const std::uint64_t last = bounds_.preemptions == kAny ? 0 : static_cast<std::uint64_t>(self() + 1);
  return mix(key, last | static_cast<std::uint64_t>(stale_left_) << 8 |
                      static_cast<std::uint64_t>(timeouts_left_) << 16 | static_cast<std::uint64_t>(kills_left_) << 24);
}

inline void Engine::bury(int thread) {
  Thread& victim = threads_[thread];
  if (!alive(thread)) {
    return;
  }
  victim.state = State::kDead;
  victim.signal = nullptr;
  if (trace_out_ != nullptr) {
    trace_line(std::string("-- ") + victim.name + " is killed");
  }
  program_->on_kill(thread);
}

inline void Engine::run_signal(Thread& self) {
  if (!self.signal) {
    return;
  }
  const auto handler = std::move(self.signal);
  self.signal = nullptr;
  self.view.join(self.signal_view);
  absorb(self, 0x516);
  const std::function<bool()>* until = self.until;
  self.until = nullptr;
  handler();
  self.until = until;
}

inline bool Engine::is_quiet(const void* address) const {
  for (const auto& [from, to] : quiet_) {
    if (address >= from && address < to) {
      return true;
    }
  }
  return false;
}

// --- Memory ----------------------------------------------------------------------------------------------------

inline Location& Engine::locate(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address);
  for (std::size_t slot = (bits >> 2) * 0x9E3779B1U >> 3;; ++slot) {
    Bucket& bucket = buckets_[slot % buckets_.size()];
    if (bucket.execution == execution_ && bucket.address == address) {
      return places_[bucket.id];
    }
    if (bucket.execution == execution_) {
      continue;
    }
    if (is_quiet(address)) {
      return quiet_place_;
    }
    bucket.execution = execution_;
    bucket.address = address;
    if (place_count_ == kMaxLocations) {
      std::fprintf(stderr, "sched: more than %d locations\n", kMaxLocations);
      std::abort();
    }
    Location& place = places_[place_count_];
    bucket.id = place_count_;
    place.address = address;
    place.key = mix(bits, 0xADD);
    place.id = place_count_++;
    place.history.clear();
    return place;
  }
}

inline std::size_t Engine::make_choice(Choice& choice) {
  if (cursor_ >= path_.size()) {
    if (picker_) {
      choice.taken = picker_(choice);
    }
    path_.push_back(choice);
  }
  const Choice& made = path_[cursor_++];
  const std::uint8_t age = made.options[made.taken].argument;
  stale_left_ -= age > 0;
  return age;
}

// Where a store goes in the modification order: last, or before stores that its thread has not seen (those are then
// newer: a processor may have delayed them). Returns how many are newer. A read-modify-write keeps its place right
// behind the store that it read.
inline std::size_t Engine::choose_place(const Location& place) {
  if (!weak() || stale_left_ == 0) {
    return 0;
  }
  Choice choice;
  choice.options[choice.count++] = {Option::Kind::kRead, 0, 0};
  const auto known = static_cast<std::size_t>(current_->view.at[place.id]);
  for (std::size_t i = place.history.size() - 1; i > known && choice.count < choice.options.size(); --i) {
    if (!place.history[i].modifies) {
      choice.options[choice.count++] = {Option::Kind::kRead, static_cast<std::uint8_t>(place.history.size() - i), 0};
    }
  }
  return choice.count == 1 ? 0 : make_choice(choice);
}

template <class F>
void Engine::each_view(F&& visit) {
  for (Thread& thread : threads_) {
    visit(thread.view);
    visit(thread.signal_view);
  }
  for (std::uint16_t i = 0; i < place_count_; ++i) {
    for (Message& message : places_[i].history) {
      visit(message.view);
    }
  }
  for (View* view : other_views_) {
    visit(*view);
  }
}

inline std::uint64_t Engine::history_hash(const Location& place) const {
  std::uint64_t hash = 0;
  for (std::size_t i = 1; i < place.history.size(); ++i) {
    hash ^= mix(place.key + i, mix(place.history[i].value, place.history[i].view.hash()));
  }
  return hash;
}

inline void Engine::insert_message(Location& place, std::size_t index, std::uint64_t value, bool release) {
  std::uint64_t all = 0;
  for (std::uint16_t i = 0; i < place_count_; ++i) {
    all ^= history_hash(places_[i]);
  }
  const auto at = static_cast<std::int16_t>(index);
  each_view([&](View& view) {
    view.at[place.id] = static_cast<std::int16_t>(view.at[place.id] + (view.at[place.id] >= at));
  });
  Message message;
  message.value = value;
  current_->view.at[place.id] = at;
  message.view.at[place.id] = at;
  if (release) {
    message.view.join(current_->view);
  }
  place.history.insert(place.history.begin() + at, message);
  for (std::uint16_t i = 0; i < place_count_; ++i) {
    all ^= history_hash(places_[i]);
  }
  memory_hash_ ^= all;
}

template <class Accept>
std::size_t Engine::choose_message(const Location& place, Accept&& accept) {
  const std::size_t newest = place.history.size() - 1;
  if (!weak() || stale_left_ == 0) {
    return newest;
  }
  Choice choice;
  const auto oldest = static_cast<std::size_t>(current_->view.at[place.id]);
  for (std::size_t i = newest + 1; i-- > oldest && choice.count < choice.options.size();) {
    if (i == newest || accept(place.history[i].value)) {
      choice.options[choice.count++] = {Option::Kind::kRead, static_cast<std::uint8_t>(newest - i), 0};
    }
  }
  return choice.count == 1 ? newest : newest - make_choice(choice);
}

inline void Engine::read_message(Location& place, std::size_t index, bool acquire) {
  Thread& self = *current_;
  const Message& message = place.history[index];
  if (weak()) {
    self.view.at[place.id] = std::max(self.view.at[place.id], static_cast<std::int16_t>(index));
  }
  if (acquire && bounds_.races) {
    self.view.join(message.view);
  }
  absorb(self, message.value);
}

inline void Engine::write_message(Location& place, std::uint64_t value, bool release, const View* sequence) {
  Thread& self = *current_;
  if (!bounds_.races) {
    replace_only(place, value);
    return;
  }
  Message message;
  message.value = value;
  const auto index = static_cast<std::int16_t>(place.history.size());
  if (weak()) {
    self.view.at[place.id] = index;
    message.view.at[place.id] = index;
  }
  if (release) {
    message.view.join(self.view);
  }
  if (sequence != nullptr) {
    message.view.join(*sequence);  // a read-modify-write continues the release sequence of the store that it read
    message.modifies = true;
  }
  if (weak()) {
    memory_hash_ ^= mix(place.key + static_cast<std::uint64_t>(index), mix(value, message.view.hash()));
    place.history.push_back(message);
    return;
  }
  replace_only(place, value);
  place.history[0].view = message.view;
}

inline void Engine::replace_only(Location& place, std::uint64_t value) {
  const std::uint64_t initial = initial_[place.id];
  const auto part = [&](std::uint64_t v) { return v == initial ? 0 : mix(place.key, v); };
  memory_hash_ ^= part(place.history[0].value) ^ part(value);
  place.history[0].value = value;
}

inline void Engine::modify_message(Location& place, std::uint64_t value, std::memory_order order) {
  const std::size_t newest = place.history.size() - 1;
  if (!bounds_.races) {
    absorb(*current_, place.history[0].value);
    replace_only(place, value);
    return;
  }
  const View sequence = place.history[newest].view;
  read_message(place, newest, is_acquire(order));
  write_message(place, value, is_release(order), &sequence);
}

inline WakeReason Engine::futex_wait(const std::uint32_t* cell, std::uint32_t expected, bool timed,
                                     const Where& where) {
  Location& place = arrive(cell, "futex wait", where);
  Thread& self = *current_;
  trace(place, *cell, std::memory_order_relaxed, 0);
  if (*cell != expected) {
    absorb(self, *cell);
    return WakeReason::kNone;
  }
  self.state = State::kAsleep;
  self.futex = cell;
  self.timed = timed;
  self.reason = WakeReason::kNone;
  absorb(self, 0x51EEB);
  decide();
  const WakeReason reason = self.reason == WakeReason::kNone ? WakeReason::kInterrupted : self.reason;
  self.state = State::kRunnable;
  self.reason = WakeReason::kNone;
  absorb(self, static_cast<std::uint64_t>(reason));
  run_signal(self);
  return reason;
}

inline int Engine::futex_wake(const std::uint32_t* cell, int count, const Where& where) {
  Location& place = arrive(cell, "futex wake", where);
  int woken = 0;
  for (Thread& thread : threads_) {
    if (woken < count && thread.state == State::kAsleep && thread.futex == cell && thread.reason == WakeReason::kNone) {
      thread.reason = WakeReason::kWoken;
      ++woken;
    }
  }
  trace(place, static_cast<std::uint64_t>(woken), std::memory_order_relaxed, 0);
  return woken;
}

inline void Engine::plain_read(PlainState& plain, const char* name) {
  if (!running_) {
    return;
  }
  Thread& self = *current_;
  if (bounds_.races && plain.writer >= 0 &&
      plain.written_at > self.view.clock[static_cast<std::size_t>(plain.writer)]) {
    fail(std::string("data race: ") + self.name + " reads " + name + ", unordered after the write by " +
         threads_[static_cast<std::size_t>(plain.writer)].name);
  }
  const auto me = static_cast<std::size_t>(this->self());
  memory_hash_ ^= mix(reinterpret_cast<std::uintptr_t>(&plain), plain.hash());
  if (bounds_.races) {
    plain.read_at[me] = ++self.view.clock[me];
  }
  memory_hash_ ^= mix(reinterpret_cast<std::uintptr_t>(&plain), plain.hash());
  absorb(self, plain.value);
  if (trace_out_ != nullptr) {
    trace_line(std::string(self.name) + ": reads " + name + " = " + std::to_string(plain.value));
  }
}

inline void Engine::plain_write(PlainState& plain, std::uint64_t value, const char* name) {
  if (!running_) {
    plain.value = value;
    return;
  }
  Thread& self = *current_;
  if (bounds_.races && plain.writer >= 0 &&
      plain.written_at > self.view.clock[static_cast<std::size_t>(plain.writer)]) {
    fail(std::string("data race: ") + self.name + " writes " + name + ", unordered after the write by " +
         threads_[static_cast<std::size_t>(plain.writer)].name);
  }
  for (std::size_t i = 0; i < kMaxThreads && bounds_.races; ++i) {
    if (plain.read_at[i] > self.view.clock[i]) {
      fail(std::string("data race: ") + self.name + " writes " + name + ", unordered after the read by " +
           threads_[i].name);
    }
  }
  const auto me = static_cast<std::size_t>(this->self());
  memory_hash_ ^= mix(reinterpret_cast<std::uintptr_t>(&plain), plain.hash());
  plain.value = value;
  if (bounds_.races) {
    plain.writer = static_cast<int>(me);
    plain.written_at = ++self.view.clock[me];
    plain.read_at = {};
  }
  memory_hash_ ^= mix(reinterpret_cast<std::uintptr_t>(&plain), plain.hash());
  if (trace_out_ != nullptr) {
    trace_line(std::string(self.name) + ": writes " + name + " = " + std::to_string(value));
  }
}

// --- Tracing ---------------------------------------------------------------------------------------------------

inline void Engine::trace_line(const std::string& text) {
  if (trace_out_ != nullptr) {
    *trace_out_ += "  " + text + "\n";
  }
}

inline void Engine::trace(const Location& place, std::uint64_t value, std::memory_order order, std::size_t age,
                          const char* op) {
  if (trace_out_ == nullptr) {
    return;
  }
  static const char* const kOrders[] = {"relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst"};
  std::string name = program_->name_of(place.address);
  char line[256];
  const char* file = std::strrchr(where_.file_name(), '/');
  std::snprintf(line, sizeof line, "%s: %s %s = %#llx%s (%s, %s:%u)", current_->name, op != nullptr ? op : trace_next_,
                name.empty() ? "?" : name.c_str(), static_cast<unsigned long long>(value), age > 0 ? " STALE" : "",
                kOrders[static_cast<int>(order)], file != nullptr ? file + 1 : where_.file_name(), where_.line());
  trace_line(line);
}

}  // namespace sched
