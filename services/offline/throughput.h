// SPDX-License-Identifier: Apache-2.0
// Speed of an engine in this process, as the benchmarks state it, and what a model's tokens cost in
// memory traffic and arithmetic: the two bounds that it is held against.
#ifndef CCOE_SERVICES_OFFLINE_THROUGHPUT_H_
#define CCOE_SERVICES_OFFLINE_THROUGHPUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/engine/engine.h"
#include "runtime/model/model_spec.h"

namespace ccoe::services {

// Parameters of layers and LM head: those every token reads. The embedding table is not among them
// (one row of it is read), unless it is the head.
int64_t ParametersTouched(const model::ModelSpec& spec);

// All parameters, the embedding table included.
int64_t ParametersTotal(const model::ModelSpec& spec);

// Bytes of weights a decode step reads, for weights of `bytes_per_weight`.
int64_t DecodeBytes(const model::ModelSpec& spec, int64_t bytes_per_weight);

// Floating-point operations (a multiply-add is two) of a prompt of `tokens`: linears of every row,
// the head for the last row alone, and causal attention (q.k and weights.v over (tokens + 1) / 2
// positions on average).
double PrefillFlops(const model::ModelSpec& spec, int64_t tokens);

struct LoadShape {
  std::vector<ExpertRef> experts;  // query i goes to experts[i % size]; empty: all to the base
  int64_t queries = 1;             // at once
  int64_t prompt_tokens = 16;      // random ids
  int64_t new_tokens = 32;         // of each query, > 1; end of sequence is ignored
  uint64_t seed = 1;
};

struct Throughput {
  // All queries together while all of them decode: from the last first token to the first last
  // token (from the first token to the last where answers are too short to overlap). Tokens a
  // second.
  double decode_tokens_per_second = 0.0;
  // Prompt tokens of all queries over the time to the last first token. Tokens a second.
  double prefill_tokens_per_second = 0.0;
};

// Runs the load once; blocks until it has finished. The first query's error, annotated.
absl::StatusOr<Throughput> MeasureThroughput(engine::Engine& engine, const model::ModelSpec& spec,
                                             const LoadShape& load);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_OFFLINE_THROUGHPUT_H_
