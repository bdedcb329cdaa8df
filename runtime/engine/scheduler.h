// SPDX-License-Identifier: Apache-2.0
// Who goes into the next step. Pure: looks at numbers, touches no device, no sequence and no clock.
#ifndef CCOE_RUNTIME_ENGINE_SCHEDULER_H_
#define CCOE_RUNTIME_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace ccoe::engine {

// A sequence as the scheduler sees it.
struct SequenceView {
  uint64_t handle = 0;  // a lower handle is older
  int64_t known_tokens = 0;
  int64_t computed_tokens = 0;
  int64_t held_pages = 0;
  uint64_t last_step = 0;  // the step it was in last
  bool runnable = true;    // false: its rows are in a step
};

// Running sequences that are no views: in a step or paused.
struct InStep {
  int64_t sequences = 0;
  int64_t promised_pages = 0;  // they will still take for the tokens they know, and the next one
};

struct SchedulerLimits {
  int64_t max_step_tokens = 512;
  int64_t max_prefill_chunk = 512;
  int64_t max_running = 256;
  int max_steps_in_flight = 2;
  int64_t page_tokens = 32;
};

// Consecutive tokens of one sequence, its next ones to compute.
struct PlannedRows {
  uint64_t handle = 0;
  int64_t first_position = 0;
  int64_t row_count = 0;
};

// To be carried out in this order: preempt, admit, run.
struct StepPlan {
  std::vector<uint64_t> preempted;  // running ones that give up their pages, youngest first
  std::vector<uint64_t> admitted;   // waiting ones that start to run
  std::vector<PlannedRows>
      rows;  // decode rows first, then chunks of prefill; empty: nobody can run now
};

// What is going on, for MayFormStep.
struct Occupancy {
  int64_t runnable = 0;     // sequences that could go into a step now
  int64_t in_step = 0;      // sequences in steps that are waited for
  int steps_in_flight = 0;  // steps that are waited for
};

// Whether to form a step now, or to wait for one in flight to come back. With `max` steps in flight
// each is to hold its share of the active sequences: else sequences of different experts drift
// apart, and the layers they share run once for each of them instead of once for all.
bool MayFormStep(const Occupancy& occupancy, int max_steps_in_flight);

// `running` and `waiting` are oldest first and in order of admission, `waiting` holds only those
// that may start now; `others` run too, but are not to be touched. Decode rows come first, those
// that waited longest ahead; a quarter of the budget stays for prefill where there is some. A
// sequence that finds no page takes those of the youngest one that is younger than itself, can be
// preempted (runnable) and is not in the plan. Waiting ones are admitted in order while their known
// tokens find room beside what the running ones will still take for theirs.
StepPlan PlanStep(const SchedulerLimits& limits, absl::Span<const SequenceView> running,
                  absl::Span<const SequenceView> waiting, int64_t free_pages,
                  const InStep& others = {});

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_SCHEDULER_H_
