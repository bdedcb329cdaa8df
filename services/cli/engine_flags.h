// Flags that the offline commands share: which model and experts, how the engine runs, how tokens
// are chosen.
#ifndef CCOE_SERVICES_CLI_ENGINE_FLAGS_H_
#define CCOE_SERVICES_CLI_ENGINE_FLAGS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/engine/request.h"
#include "services/cli/command.h"
#include "services/cli/serving_flags.h"
#include "services/offline/offline_engine.h"

namespace ccoe::cli {

struct EngineFlags {
  std::string model;
  std::string expert;  // a bundle's folder; empty: the base alone
  std::string exchange = "local";
  std::string wire = "f32";
  int expert_workers = 0;
  int replicas = 1;
  bool combine_on_workers = false;
  int threads = 0;
  ComputeFlags compute;
  int64_t chunk = 512;
  int64_t kv_tokens = 65536;
};

// --model, --expert, --exchange, --wire, --expert-workers, --threads, --chunk, --kv-tokens, and
// those of AddComputeFlags.
void AddEngineFlags(CLI::App* command, EngineFlags& flags);
absl::StatusOr<services::OfflineOptions> ToOfflineOptions(const EngineFlags& flags);

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

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_ENGINE_FLAGS_H_
