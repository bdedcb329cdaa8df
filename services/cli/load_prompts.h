// What a load generator asks: request i is the same in every run with the same options, and is made
// when it is sent, so that a run may last as long as it likes.
#ifndef CCOE_SERVICES_CLI_LOAD_PROMPTS_H_
#define CCOE_SERVICES_CLI_LOAD_PROMPTS_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "services/cli/requests.h"

namespace ccoe::cli {

struct LoadPrompt {
  Request request;            // its id is unique in the run
  int64_t output_tokens = 0;  // longest answer
};

// Prompt of request `index` >= 0. Thread-safe.
using LoadPrompts = std::function<LoadPrompt(int64_t index)>;

struct RandomPromptOptions {
  int32_t vocabulary = 0;       // ids are below it, > 0
  int64_t input_tokens = 1024;  // > 0
  int64_t output_tokens = 128;  // > 0
  // [0, 1): lengths are uniform over [length * (1 - ratio), length * (1 + ratio)], at least 1.
  double range_ratio = 0.0;
  // Tokens in front of every prompt, the same for all; on top of input_tokens.
  int64_t prefix_tokens = 0;
  uint64_t seed = 0;
};

// Uniform token ids.
LoadPrompts RandomPrompts(const RandomPromptOptions& options);

// The requests (at least one) in turn, over and over; ids of later rounds end with "#2", "#3", ...
LoadPrompts FilePrompts(std::vector<Request> requests, int64_t output_tokens);

// How many ids a model knows, > 0, found by asking `takes` (whether an id is one of them; the error
// ends the search). UNIMPLEMENTED where it takes not even id 0.
absl::StatusOr<int32_t> FindVocabulary(const std::function<absl::StatusOr<bool>(int32_t)>& takes);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_LOAD_PROMPTS_H_
