#include "services/cli/serving_flags.h"

namespace ccoe::cli {

void AddServingEngineFlags(CLI::App* command, ServingEngineFlags& flags) {
  engine::EngineOptions& engine = flags.engine;
  AddFlag(command, "--kv-tokens", engine.kv_tokens,
          "Capacity of the backbone's KV cache in tokens. Memory is used as it fills.")
      .Positive();
  AddFlag(command, "--step-tokens", engine.max_step_tokens,
          "Tokens that one step may hold: decoding sequences first, then prefill.")
      .Positive();
  AddFlag(command, "--prefill-chunk", engine.max_prefill_chunk,
          "Tokens of one prompt that one step may hold.")
      .Positive();
  AddFlag(command, "--max-running", engine.max_running, "Queries that run at once.").Positive();
  AddFlag(command, "--max-waiting", engine.max_waiting,
          "Queries that may wait for a place; one more is refused (RESOURCE_EXHAUSTED).")
      .NonNegative();
  AddFlag(command, "--wire", flags.wire,
          "Type of activations between backbone and expert workers: f32 is exact, bf16 halves the "
          "bytes.")
      .OneOf({"f32", "bf16"});
  AddSwitch(command, "--combine-on-workers", engine.combine_on_workers,
            "Expert workers add up a row's FFN experts before they send them back: less traffic; "
            "answers then depend on the placement within rounding.");
  AddFlag(command, "--replica-patience", flags.replica_patience_seconds,
          "Seconds that a query waits for a worker where none holds its expert now.")
      .Range(0.0, 3600.0);
  AddFlag(command, "--room-patience", flags.room_patience_seconds,
          "Seconds that a query waits for room at an expert that is full.")
      .Range(0.0, 3600.0);
  AddMoePolicyFlags(command, flags.moe);
}

engine::EngineOptions ToEngineOptions(const ServingEngineFlags& flags) {
  engine::EngineOptions options = flags.engine;
  options.wire_dtype = flags.wire == "bf16" ? kernels::DType::kBF16 : kernels::DType::kF32;
  options.moe_policy = ToMoePolicy(flags.moe);
  options.replica_patience = absl::Seconds(flags.replica_patience_seconds);
  options.room_patience = absl::Seconds(flags.room_patience_seconds);
  return options;
}

void AddComputeFlags(CLI::App* command, ComputeFlags& flags) {
  AddFlag(command, "--device", flags.device, "What computes: cpu, cuda (the first GPU) or cuda:N.");
  AddFlag(
      command, "--math", flags.math,
      "On a GPU: what matrix products multiply, weights are held as and the KV cache holds; sums "
      "are f32 either way. The CPU computes in f32.")
      .OneOf({"f32", "bf16"});
  AddFlag(command, "--numerics", flags.numerics,
          "On a GPU: deterministic gives a row the same bits in any batch. fast computes linears "
          "of more than 16 rows by cuBLASLt, without that promise: answers then depend on what "
          "else runs.")
      .OneOf({"deterministic", "fast"});
}

services::ComputeOptions ToComputeOptions(const ComputeFlags& flags) {
  services::ComputeOptions options;
  options.device = flags.device;
  options.math = flags.math == "bf16" ? kernels::DType::kBF16 : kernels::DType::kF32;
  options.numerics =
      flags.numerics == "fast" ? services::Numerics::kFast : services::Numerics::kDeterministic;
  return options;
}

void AddThreadsFlag(CLI::App* command, int& threads) {
  AddFlag(command, "--threads", threads, "Threads that compute; 0: all cores.").Range(0, 1024);
}

}  // namespace ccoe::cli
