// Walks the tree of a program's executions: exhaustively within bounds, or at random from a seed.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "tests/runtime/sched_engine.hpp"

namespace sched {

struct Report {
  bool failed = false;
  bool complete = false;  // everything within the bounds was explored
  std::string message;
  std::string trace;  // of the failing execution
  std::uint64_t executions = 0;
  std::uint64_t states = 0;
  std::uint64_t steps = 0;

  std::string summary() const {
    return std::to_string(executions) + " executions, " + std::to_string(states) + " states, " + std::to_string(steps) +
           " steps" + (complete ? ", complete" : "") + (failed ? ", FAILED: " + message + "\n" + trace : "");
  }
};

// The failing path once more, with every step written down.
inline void trace_failure(Program& program, const Bounds& bounds, Report* report) {
  Engine& engine = Engine::get();
  report->failed = true;
  report->message = engine.message();
  engine.trace_to(&report->trace);
  engine.run(program, bounds);
  engine.trace_to(nullptr);
}

inline Report explore(Program& program, const Bounds& bounds) {
  Engine& engine = Engine::get();
  std::vector<Engine::Choice>& path = engine.path();
  path.clear();
  engine.seen().clear();
  Report report;
  const std::uint64_t steps_before = engine.steps();
  for (;;) {
    ++report.executions;
    if (engine.run(program, bounds) == Engine::End::kFailed) {
      trace_failure(program, bounds, &report);
      break;
    }
    while (!path.empty() && path.back().taken + 1 >= path.back().count) {
      path.pop_back();
    }
    if (path.empty()) {
      report.complete = true;
      break;
    }
    ++path.back().taken;
    if (report.executions >= bounds.executions) {
      break;
    }
  }
  report.states = engine.seen().size();
  report.steps = engine.steps() - steps_before;
  return report;
}

// Random walks. The seed of a failure is in its message: sample(program, bounds, seed, 1) repeats it.
inline Report sample(Program& program, const Bounds& bounds, std::uint64_t first_seed, std::uint64_t runs) {
  Engine& engine = Engine::get();
  Report report;
  const std::uint64_t steps_before = engine.steps();
  for (std::uint64_t seed = first_seed; seed < first_seed + runs; ++seed) {
    std::mt19937_64 random(seed);
    const std::uint64_t stay = 2 + random() % 24;  // how reluctant this walk is to switch, kill or read old values
    const auto pick = [&](const Engine::Choice& choice) -> std::uint8_t {
      if (choice.options[0].kind != Engine::Option::Kind::kRead && !choice.options[choice.count - 1].preempts &&
          choice.options[choice.count - 1].kind == Engine::Option::Kind::kRun) {
        return static_cast<std::uint8_t>(random() % choice.count);  // a switch that costs nothing
      }
      return random() % stay != 0 ? 0 : static_cast<std::uint8_t>(random() % choice.count);
    };
    engine.path().clear();
    ++report.executions;
    if (engine.run(program, bounds, pick) == Engine::End::kFailed) {
      trace_failure(program, bounds, &report);
      report.message += " (seed " + std::to_string(seed) + ")";
      break;
    }
  }
  engine.path().clear();
  report.steps = engine.steps() - steps_before;
  return report;
}

}  // namespace sched
