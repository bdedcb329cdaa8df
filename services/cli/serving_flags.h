// Flags of the parts of a cluster that `ccoe up` and the roles share.
#ifndef CCOE_SERVICES_CLI_SERVING_FLAGS_H_
#define CCOE_SERVICES_CLI_SERVING_FLAGS_H_

#include <cstdint>
#include <string>

#include "runtime/engine/engine_options.h"
#include "services/cli/command.h"
#include "services/cli/moe_flags.h"
#include "services/common/compute.h"

namespace ccoe::cli {

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

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_SERVING_FLAGS_H_
