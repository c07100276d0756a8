// When a traced task was claimed and how long its stages took, for the host to read with its result.
#include <unistd.h>

#include "rbridge/embed/evaluator_state.hpp"
#include "runtime/clock.hpp"

namespace setsuna::embed::evaluation {

namespace {

struct Stages {
  float decode_ns;
  float evaluate_ns;
  float encode_ns;
};

// A task that failed early has not come through all stages: the one that it failed in ends with it.
Stages take_stages(std::uint64_t began_ns, std::uint64_t now_ns) {
  const std::uint64_t evaluated_ns = hand.evaluated_ns == 0 ? now_ns : hand.evaluated_ns;
  const std::uint64_t decoded_ns = hand.decoded_ns == 0 ? evaluated_ns : hand.decoded_ns;
  hand.decoded_ns = 0;
  hand.evaluated_ns = 0;
  return {static_cast<float>(decoded_ns - began_ns), static_cast<float>(evaluated_ns - decoded_ns),
          static_cast<float>(now_ns - evaluated_ns)};
}

}  // namespace

std::uint64_t stamp_now() { return runtime::monotonic_ns(); }

void put_claim_stamps() {
  static const auto pid = static_cast<std::uint32_t>(::getpid());
  trace_area.claimed(hand.claim.slot, hand.claim.generation, hand.started_ns, pid);
}

void put_stage_stamps(std::uint64_t now_ns) {
  const Stages stages = take_stages(hand.started_ns, now_ns);
  auto& stamps = trace_area.of(hand.claim.slot);
  stamps.decode_ns = stages.decode_ns;
  stamps.evaluate_ns = stages.evaluate_ns;
  stamps.encode_ns = stages.encode_ns;
}

void put_element_stamps() {
  const std::uint64_t began_ns = hand.started_ns;  // of the element, see finish_element_scope()
  const Stages stages = take_stages(began_ns, runtime::monotonic_ns());
  trace_area.element(hand.claim.slot, hand.position) = {static_cast<float>(began_ns - hand.range_since_ns),
                                                        stages.decode_ns, stages.evaluate_ns, stages.encode_ns};
}

}  // namespace setsuna::embed::evaluation
