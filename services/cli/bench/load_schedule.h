// SPDX-License-Identifier: Apache-2.0
// What a load generator sends: when, to which expert, and which prompt. All of it follows from a
// seed, so that two runs send the same; and request i is made when it is sent, so that a run may
// last as long as it likes.
#ifndef CCOE_SERVICES_CLI_BENCH_LOAD_SCHEDULE_H_
#define CCOE_SERVICES_CLI_BENCH_LOAD_SCHEDULE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/cli/requests.h"

namespace ccoe::cli {

// What a request's random choices are for. Each has numbers of its own, so that a longer prompt
// changes neither the next request nor this one's expert.
enum class LoadStream : uint32_t { kArrivals, kPrompt, kLengths, kExpert, kSampling };

// Random numbers of request `index`, whatever was drawn for other requests.
std::mt19937_64 LoadRandom(uint64_t seed, LoadStream stream, int64_t index);

struct ArrivalOptions {
  double rate = 0.0;        // requests a second, > 0; infinity: all at once
  double burstiness = 1.0;  // > 0: shape of the gamma distribution of the gaps
  uint64_t seed = 0;
};

// Arrivals of an open loop: gaps of the mean 1 / rate. Burstiness 1 is a Poisson process; less
// comes in bursts, more comes evenly. Not thread-safe.
class Arrivals {
 public:
  explicit Arrivals(const ArrivalOptions& options);

  // When the next request is due, since the load began.
  absl::Duration Next();

 private:
  const bool all_at_once_;
  std::mt19937_64 random_;
  std::gamma_distribution<double> gap_seconds_;
  double due_seconds_ = 0.0;
};

// Experts by popularity: the k-th of the list, from 1, with a probability proportional to
// 1 / k^exponent. Exponent 0 asks for all alike. Thread-safe (const).
class ExpertChoice {
 public:
  // No experts: every request goes where the router sends it.
  ExpertChoice(std::vector<std::string> experts, double exponent, uint64_t seed);

  // What request `index` asks for; empty: nothing, the router chooses.
  std::string Expert(int64_t index) const;

 private:
  const std::vector<std::string> experts_;
  const uint64_t seed_;
  std::vector<double> cumulative_;  // of the probabilities, not normalised
};

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

#endif  // CCOE_SERVICES_CLI_BENCH_LOAD_SCHEDULE_H_
