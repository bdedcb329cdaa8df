// SPDX-License-Identifier: Apache-2.0
#include "services/cli/flags.h"

#include <cmath>
#include <functional>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status_macros.h"
#include "services/launcher/role_options.h"
#include "services/offline/offline_engine.h"

namespace ccoe::cli {
namespace {

struct Pair {
  std::optional<int32_t> first;
  int32_t second = 0;
};

// "2" or "3:2", numbers of 0 or more.
std::optional<Pair> ParsePair(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  std::vector<int32_t> numbers(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts.size() > 2 || !absl::SimpleAtoi(parts[i], &numbers[i]) || numbers[i] < 0) return {};
  }
  if (numbers.size() == 1) return Pair{std::nullopt, numbers[0]};
  return Pair{numbers[0], numbers[1]};
}

// Gives each value of `flag` to `take`, with the part of `control` that it is about.
absl::Status ForEach(absl::string_view flag, const std::vector<std::string>& values,
                     engine::MoeControl& control,
                     const std::function<bool(engine::LayerMoeControl&, int32_t)>& take) {
  for (const std::string& value : values) {
    const std::optional<Pair> pair = ParsePair(value);
    if (!pair.has_value()) {
      return UsageError(
          absl::StrCat(flag, ": expected a number, or LAYER:NUMBER, found \"", value, "\""));
    }
    engine::LayerMoeControl& part =
        pair->first.has_value() ? control.layers[*pair->first] : control.all_layers;
    if (!take(part, pair->second)) {
      return UsageError(absl::StrCat(flag, ": ", value,
                                     ": expected 1 or more, once for a layer and once for all"));
    }
  }
  return absl::OkStatus();
}

constexpr std::pair<const char*, double> kUnits[] = {
    {"", 1.0},
    {"B", 1.0},
    {"KB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
    {"KiB", 1024.0},
    {"MiB", 1024.0 * 1024},
    {"GiB", 1024.0 * 1024 * 1024},
    {"TiB", 1024.0 * 1024 * 1024 * 1024},
};

}  // namespace

void AddMoeFlags(CLI::App* command, MoeFlags& flags) {
  // One value for each time a flag is given, so that none swallows what follows it.
  AddFlag(command, "--active-experts", flags.active,
          "Mixture-of-experts models: experts that a token activates, N or LAYER:N; may be "
          "repeated.")
      .OneValueEach();
  AddFlag(command, "--mask-expert", flags.masked,
          "Mixture-of-experts models: an expert that no token may choose, LAYER:EXPERT, or EXPERT "
          "of all layers; may be repeated.")
      .OneValueEach();
  AddFlag(command, "--force-expert", flags.forced,
          "Mixture-of-experts models: an expert that every token chooses, LAYER:EXPERT, or EXPERT "
          "of all layers; may be repeated.")
      .OneValueEach();
}

absl::StatusOr<std::shared_ptr<const engine::MoeControl>> ToMoeControl(const MoeFlags& flags) {
  if (flags.active.empty() && flags.masked.empty() && flags.forced.empty()) return nullptr;
  engine::MoeControl control;
  CCOE_RETURN_IF_ERROR(ForEach(
      "--active-experts", flags.active, control, [](engine::LayerMoeControl& part, int32_t active) {
        return active > 0 && std::exchange(part.active_experts, active) == 0;
      }));
  CCOE_RETURN_IF_ERROR(ForEach("--mask-expert", flags.masked, control,
                               [](engine::LayerMoeControl& part, int32_t expert) {
                                 part.masked.push_back(expert);
                                 return true;
                               }));
  CCOE_RETURN_IF_ERROR(ForEach("--force-expert", flags.forced, control,
                               [](engine::LayerMoeControl& part, int32_t expert) {
                                 part.forced.push_back(expert);
                                 return true;
                               }));
  return std::make_shared<const engine::MoeControl>(std::move(control));
}

void AddEngineFlags(CLI::App* command, EngineFlags& flags) {
  AddFlag(command, "--model", flags.model, "Folder of the base model (Hugging Face layout).")
      .Required();
  AddFlag(command, "--bundle", flags.bundle,
          "Folder of an expert bundle; without it the base answers.");
  AddFlag(command, "--exchange", flags.exchange,
          "How activations reach the experts: local (in this process, no wire) or grpc (over "
          "loopback); auto is local.")
      .Check([](const std::string& text) {
        if (text == "auto" || text == "local" || text == "grpc") return std::string();
        return absl::StrCat("expected auto, local or grpc, found \"", text, "\"",
                            text == "nccl" ? ": that is for workers of their own (ccoe up "
                                             "--processes)"
                                           : "");
      });
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
  AddFlags(command, services::ThreadsFlags(flags.threads));
  AddFlags(command, services::ComputeFlags(flags.compute));
  AddFlag(command, "--prefill-chunk", flags.prefill_chunk,
          "Tokens of one prompt that one step may hold.")
      .Range(int64_t{1}, int64_t{65536});
  AddFlag(command, "--kv-tokens", flags.kv_tokens, "KV cache of the backbone in tokens.")
      .Range(int64_t{1}, int64_t{1} << 32);
  AddFlag(command, "--expert-kv-tokens", flags.expert_kv_tokens,
          "KV cache of each expert in tokens.")
      .Range(int64_t{1}, int64_t{1} << 32);
}

absl::StatusOr<services::OfflineOptions> ToOfflineOptions(const EngineFlags& flags) {
  services::OfflineOptions options;
  options.model_folder = flags.model;
  if (!flags.bundle.empty()) options.expert_folders.push_back(flags.bundle);
  CCOE_ASSIGN_OR_RETURN(options.exchange, services::ParseExchange(
                                              flags.exchange == "auto" ? "local" : flags.exchange));
  options.expert_workers = flags.expert_workers;
  options.ffn_copies = flags.replicas;
  options.engine.combine_on_workers = flags.combine_on_workers;
  options.threads = flags.threads;
  options.compute = flags.compute;
  options.expert_kv_tokens = flags.expert_kv_tokens;
  options.engine.kv_tokens = flags.kv_tokens;
  options.engine.max_prefill_chunk = flags.prefill_chunk;
  options.engine.max_step_tokens = std::max(options.engine.max_step_tokens, flags.prefill_chunk);
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

absl::StatusOr<int64_t> ParseByteSize(absl::string_view text) {
  const size_t digits = text.find_first_not_of("0123456789.");
  const absl::string_view number = text.substr(0, digits);
  const absl::string_view unit = absl::StripAsciiWhitespace(
      digits == absl::string_view::npos ? absl::string_view() : text.substr(digits));
  double value = 0;
  for (const auto& [name, bytes] : kUnits) {
    if (unit != name || !absl::SimpleAtod(number, &value)) continue;
    value *= bytes;
    if (value > 1e18) break;
    return static_cast<int64_t>(std::llround(value));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "expected a number of bytes such as \"12GiB\", \"800MB\" or \"4096\", found \"", text, "\""));
}

std::string ByteSizeText(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 1e12) return absl::StrFormat("%.3g TB", value / 1e12);
  if (value >= 1e9) return absl::StrFormat("%.3g GB", value / 1e9);
  if (value >= 1e6) return absl::StrFormat("%.3g MB", value / 1e6);
  if (value >= 1e3) return absl::StrFormat("%.3g kB", value / 1e3);
  return absl::StrCat(bytes, " B");
}

}  // namespace ccoe::cli
