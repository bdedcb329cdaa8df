#include "services/cli/engine_flags.h"

#include "runtime/base/status_macros.h"

namespace ccoe::cli {

void AddEngineFlags(CLI::App* command, EngineFlags& flags) {
  AddFlag(command, "--model", flags.model, "Folder of the base model (Hugging Face layout).")
      .Required();
  AddFlag(command, "--expert", flags.expert,
          "Folder of an expert bundle; without it the base answers.");
  AddFlag(command, "--exchange", flags.exchange,
          "How activations reach the expert: in the process, or over gRPC on loopback.")
      .OneOf({"local", "grpc"});
  AddFlag(command, "--wire", flags.wire, "Type of the rows between backbone and expert.")
      .OneOf({"f32", "bf16"});
  AddFlag(
      command, "--expert-workers", flags.expert_workers,
      "Expert workers. Queries of a bundle are spread over them; the FFN experts of a "
      "mixture-of-experts model are dealt out to them. 0: one for bundles, FFN experts with the "
      "backbone.")
      .Range(0, 64);
  AddFlag(command, "--replicas", flags.replicas,
          "Copies of each FFN expert, on different expert workers.")
      .Range(1, 64);
  AddSwitch(command, "--combine-on-workers", flags.combine_on_workers,
            "Expert workers add up a row's FFN experts before they send it back: less traffic, "
            "results that depend on the placement within rounding.");
  AddFlag(command, "--threads", flags.threads, "Compute threads; 0 takes all cores.")
      .Range(0, 1024);
  AddComputeFlags(command, flags.compute);
  AddFlag(command, "--chunk", flags.chunk,
          "Longest piece of a prompt that one step takes, in tokens.")
      .Range(int64_t{1}, int64_t{65536});
  AddFlag(command, "--kv-tokens", flags.kv_tokens,
          "KV cache of the backbone, and of each expert, in tokens.")
      .Range(int64_t{1}, int64_t{1} << 32);
}

absl::StatusOr<services::OfflineOptions> ToOfflineOptions(const EngineFlags& flags) {
  services::OfflineOptions options;
  options.model_folder = flags.model;
  if (!flags.expert.empty()) options.expert_folders.push_back(flags.expert);
  CCOE_ASSIGN_OR_RETURN(options.exchange, services::ParseExchange(flags.exchange));
  options.expert_workers = flags.expert_workers;
  options.ffn_copies = flags.replicas;
  options.engine.combine_on_workers = flags.combine_on_workers;
  options.threads = flags.threads;
  options.compute = ToComputeOptions(flags.compute);
  options.expert_kv_tokens = flags.kv_tokens;
  options.engine.kv_tokens = flags.kv_tokens;
  options.engine.max_prefill_chunk = flags.chunk;
  options.engine.max_step_tokens = std::max(options.engine.max_step_tokens, flags.chunk);
  options.engine.wire_dtype = flags.wire == "bf16" ? kernels::DType::kBF16 : kernels::DType::kF32;
  return options;
}

void AddSamplingFlags(CLI::App* command, SamplingFlags& flags) {
  AddFlag(command, "--temperature", flags.temperature, "0 is greedy; up to 10.");
  AddFlag(command, "--top-k", flags.top_k, "Keep the k likeliest tokens; 0 is off.");
  AddFlag(command, "--top-p", flags.top_p, "Keep the likeliest tokens up to this mass.");
  AddFlag(command, "--min-p", flags.min_p,
          "Keep tokens at least this likely, relative to the likeliest.");
  AddFlag(command, "--repetition-penalty", flags.repetition_penalty,
          "Over prompt and answer; 1 is off.");
  AddFlag(command, "--presence-penalty", flags.presence_penalty, "Over the answer, -2 to 2.");
  AddFlag(command, "--frequency-penalty", flags.frequency_penalty, "Over the answer, -2 to 2.");
  AddFlag(command, "--seed", flags.seed,
          "The same seed gives the same text; -1 takes a fresh one.");
  AddFlag(command, "--min-tokens", flags.min_tokens, "No end of sequence before so many tokens.");
  AddFlag(command, "--max-tokens", flags.max_tokens, "Longest answer in tokens.");
  AddSwitch(command, "--ignore-eos", flags.ignore_eos,
            "Do not stop at the model's end-of-sequence tokens.");
}

engine::SamplingParams ToSamplingParams(const SamplingFlags& flags) {
  engine::SamplingParams params;
  params.temperature = flags.temperature;
  params.top_k = flags.top_k;
  params.top_p = flags.top_p;
  params.min_p = flags.min_p;
  params.repetition_penalty = flags.repetition_penalty;
  params.presence_penalty = flags.presence_penalty;
  params.frequency_penalty = flags.frequency_penalty;
  if (flags.seed >= 0) params.seed = static_cast<uint64_t>(flags.seed);
  params.min_tokens = flags.min_tokens;
  params.max_tokens = flags.max_tokens;
  params.ignore_eos = flags.ignore_eos;
  return params;
}

}  // namespace ccoe::cli
