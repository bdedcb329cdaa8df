// SPDX-License-Identifier: Apache-2.0
// Flags that several subcommands share.
#ifndef CCOE_SERVICES_CLI_FLAGS_H_
#define CCOE_SERVICES_CLI_FLAGS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/moe_control.h"
#include "runtime/engine/request.h"
#include "services/cli/command.h"
#include "services/common/compute.h"

namespace ccoe::services {
struct OfflineOptions;
}  // namespace ccoe::services

namespace ccoe::cli {

// About the gates of mixture-of-experts models: what a request asks, what an operator allows.

struct MoeFlags {
  std::vector<std::string> active, masked, forced;  // "N" or "LAYER:N", all of them may be repeated
};

// --active-experts, --mask-expert, --force-expert.
void AddMoeFlags(CLI::App* command, MoeFlags& flags);

// Null where no flag was given; a UsageError names the flag.
absl::StatusOr<std::shared_ptr<const engine::MoeControl>> ToMoeControl(const MoeFlags& flags);

struct MoePolicyFlags {
  std::string active_experts;  // "MIN:MAX"; empty: not allowed
  bool allow_masks = false;
  bool allow_forced = false;
};

// --moe-active-experts, --moe-allow-masks, --moe-allow-forced.
void AddMoePolicyFlags(CLI::App* command, MoePolicyFlags& flags);
// Of flags that AddMoePolicyFlags has checked.
engine::MoePolicy ToMoePolicy(const MoePolicyFlags& flags);

// Of the parts of a cluster: `ccoe up` and the roles.

// --kv-tokens, --step-tokens, --prefill-chunk, --max-running, --max-waiting, --wire,
// --combine-on-workers, --replica-patience, --room-patience, and those of AddMoePolicyFlags.
struct ServingEngineFlags {
  engine::EngineOptions engine;
  std::string wire = "f32";
  double replica_patience_seconds = absl::ToDoubleSeconds(engine.replica_patience);
  double room_patience_seconds = absl::ToDoubleSeconds(engine.room_patience);
  MoePolicyFlags moe;
};
void AddServingEngineFlags(CLI::App* command, ServingEngineFlags& flags);
engine::EngineOptions ToEngineOptions(const ServingEngineFlags& flags);

// --threads.
void AddThreadsFlag(CLI::App* command, int& threads);

// --device, --math, --numerics: what computes, and as what and how on a GPU.
struct ComputeFlags {
  std::string device = "cpu";
  std::string math = "f32";
  std::string numerics = "deterministic";
};
void AddComputeFlags(CLI::App* command, ComputeFlags& flags);
services::ComputeOptions ToComputeOptions(const ComputeFlags& flags);

// Of the commands that run an engine themselves: which model and experts, how the engine runs.

struct EngineFlags {
  std::string model;
  std::string bundle;  // an expert's folder; empty: the base alone
  std::string exchange = "auto";
  std::string wire = "f32";
  int expert_workers = 0;
  int replicas = 1;
  bool combine_on_workers = false;
  int threads = 0;
  ComputeFlags compute;
  int64_t prefill_chunk = 512;
  int64_t kv_tokens = 65536;         // of the backbone
  int64_t expert_kv_tokens = 65536;  // of each expert
};

// --model, --bundle, --exchange, --wire, --expert-workers, --replicas, --combine-on-workers,
// --threads, --prefill-chunk, --kv-tokens, --expert-kv-tokens, and those of AddComputeFlags.
void AddEngineFlags(CLI::App* command, EngineFlags& flags);
absl::StatusOr<services::OfflineOptions> ToOfflineOptions(const EngineFlags& flags);

// How tokens are chosen.

struct SamplingFlags {
  float temperature = 1.0f;
  int32_t top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  int64_t seed = -1;
  int64_t min_tokens = 0;
  int64_t max_tokens = 256;
  bool ignore_eos = false;
};

// --temperature, --top-k, --top-p, --min-p, the penalties, --seed, --min-tokens, --max-tokens,
// --ignore-eos.
void AddSamplingFlags(CLI::App* command, SamplingFlags& flags);
engine::SamplingParams ToSamplingParams(const SamplingFlags& flags);

// Sizes of memory as people write them.

// "12GiB", "1.5 GB", "800MB", "4096": whole bytes; K, M, G, T with "B" are powers of 1000, with
// "iB" of 1024. INVALID_ARGUMENT quotes what is none.
absl::StatusOr<int64_t> ParseByteSize(absl::string_view text);

// "12.9 GB": three digits.
std::string ByteSizeText(int64_t bytes);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_FLAGS_H_
