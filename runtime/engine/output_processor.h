// SPDX-License-Identifier: Apache-2.0
// The end of a micro batch: head, sampling, and what the sinks get.
#ifndef CCOE_RUNTIME_ENGINE_OUTPUT_PROCESSOR_H_
#define CCOE_RUNTIME_ENGINE_OUTPUT_PROCESSOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/sample.h"
#include "runtime/base/clock.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/micro_batch.h"
#include "runtime/engine/model_runner.h"
#include "runtime/engine/request.h"
#include "runtime/engine/sequence_table.h"

namespace ccoe::engine {

// What the sampling op (kernels/sample.h) is asked for one row. The draw is a function of (seed,
// position) alone: no generator state, so that a query gets the same tokens whatever else runs and
// after it was recomputed.
struct SampleRequest {
  const SamplingParams* params = nullptr;  // passed Validate
  const TokenCounts* counts = nullptr;     // needed where NeedsCounts(*params)
  absl::Span<const int32_t> held_back;     // ids that may not be chosen (min_tokens)
  uint64_t seed = 0;
  int64_t position = 0;  // of the token to choose, in prompt and answer
};

// Uniform in [0, 1), by hashing (seed, position).
double UniformAt(uint64_t seed, int64_t position);

// Views the request's counts and ids.
kernels::SampleRow SampleRowFor(const SampleRequest& request);

// What the op found for the request's row. INTERNAL where a logit is NaN or infinite, or every id
// is held back.
absl::StatusOr<GeneratedToken> TokenOf(const SampleRequest& request,
                                       const kernels::SampledRow& sampled);

// Where an entry's last `count` rows lie among the model runner's.
struct HeldRows {
  int64_t begin = 0;
  int64_t count = 0;
};

// Used by the engine's thread alone.
class OutputProcessor {
 public:
  // The pointers must outlive the processor; `observer` and `clock` may be null.
  OutputProcessor(ModelRunner* runner, SequenceTable* table, EngineObserver* observer,
                  const Clock* clock)
      : runner_(runner), table_(table), observer_(observer), clock_(ClockOr(clock)) {}

  // The entries' rows ran all layers; those the head needs lie in the runner. Finishes the entries'
  // part of the step: logits, hidden states and tokens go to the sinks; the sequences are runnable
  // again or finished. Entries of finished queries are passed over.
  void Deliver(absl::Span<StepEntry> entries, absl::Span<const HeldRows> held,
               const model::LmHead& head);

  // Ends the entries' queries with `status`.
  void Fail(absl::Span<StepEntry> entries, const absl::Status& status);
  // Likewise, of an error of the runner's. One that says that the device does not compute any more
  // is kept, and the queries get UNAVAILABLE: they can go on elsewhere.
  void FailPass(absl::Span<StepEntry> entries, const absl::Status& status);
  // OK, or why the device computes no more.
  const absl::Status& device_error() const { return device_error_; }

  int64_t prompt_tokens() const { return prompt_tokens_; }  // computed since start, also again
  int64_t generated_tokens() const { return generated_tokens_; }  // since start

 private:
  // A row the head runs over.
  struct HeadRow {
    StepEntry* entry;
    int32_t row;       // in the runner
    int64_t position;  // in the sequence
    bool samples;      // its logits choose a token
  };

  // Those that choose a token behind the others; the rows of a sequence rise.
  std::vector<HeadRow> RowsForHead(absl::Span<StepEntry> entries,
                                   absl::Span<const HeldRows> held) const;
  void EndSteps(absl::Span<StepEntry> entries);
  absl::Status RunHead(absl::Span<const HeadRow> rows, const model::LmHead& head);
  absl::Status EmitLogits(absl::Span<const HeadRow> rows);
  absl::Status SampleRows(absl::Span<const HeadRow> rows);
  void EndRow(const std::shared_ptr<Sequence>& sequence,
              const absl::StatusOr<GeneratedToken>& token);
  void Emit(const std::shared_ptr<Sequence>& sequence, const GeneratedToken& token);

  ModelRunner* const runner_;
  SequenceTable* const table_;
  EngineObserver* const observer_;
  const Clock& clock_;
  std::vector<float> logits_;  // on their way to a sink
  int64_t prompt_tokens_ = 0;
  int64_t generated_tokens_ = 0;
  absl::Status device_error_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_OUTPUT_PROCESSOR_H_
