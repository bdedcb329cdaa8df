// SPDX-License-Identifier: Apache-2.0
// Runs queries on an engine and waits for their whole answers.
#ifndef CCOE_SERVICES_OFFLINE_COLLECTOR_H_
#define CCOE_SERVICES_OFFLINE_COLLECTOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "runtime/engine/engine.h"

namespace ccoe::services {

// The FFN experts one row went through at one MoE layer, with their weights.
struct RowChoice {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

struct Answer {
  std::vector<engine::GeneratedToken> tokens;
  std::vector<float> logits;  // [prompt tokens, vocab_size] where asked for
  std::vector<float> hidden;  // [layers + 1, prompt tokens, hidden_size] where asked for
  std::map<int32_t, std::vector<RowChoice>> routing;  // by layer and position, where asked for
  engine::FinishReason reason = engine::FinishReason::kError;
  engine::Usage usage;
  absl::Status status;
};

// Submits all queries, at most `max_in_flight` at once, and waits for the last. Answers stand in
// the queries' order, errors in Answer::status. `on_done` (may be empty) is told how many have
// finished, for progress.
std::vector<Answer> RunQueries(engine::Engine& engine,
                               const std::vector<engine::EngineRequest>& queries,
                               int64_t max_in_flight = 256,
                               const std::function<void(size_t finished)>& on_done = nullptr);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_OFFLINE_COLLECTOR_H_
