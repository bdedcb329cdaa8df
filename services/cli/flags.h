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
#include "runtime/engine/moe_control.h"
#include "runtime/engine/request.h"
#include "services/cli/command.h"
#include "services/common/compute.h"

namespace ccoe::services {
struct OfflineOptions;
}  // namespace ccoe::services

namespace ccoe::cli {

// What a request asks of the gates of mixture-of-experts models.

struct MoeFlags {
  std::vector<std::string> active, masked, forced;  // "N" or "LAYER:N", all of them may be repeated
};

// --active-experts, --mask-expert, --force-expert.
void AddMoeFlags(CLI::App* command, MoeFlags& flags);

// Null where no flag was given; a UsageError names the flag.
absl::StatusOr<std::shared_ptr<const engine::MoeControl>> ToMoeControl(const MoeFlags& flags);

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
  services::ComputeOptions compute;
  int64_t prefill_chunk = 512;
  int64_t kv_tokens = 65536;         // of the backbone
  int64_t expert_kv_tokens = 65536;  // of each expert
};

// --model, --bundle, --exchange, --wire, --expert-workers, --replicas, --combine-on-workers,
// --prefill-chunk, --kv-tokens, --expert-kv-tokens, and those of services::ThreadsFlags and
// services::ComputeFlags.
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
