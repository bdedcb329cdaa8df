// SPDX-License-Identifier: Apache-2.0
// Shapes of models, and a golden model's weights held to them. Input: a byte for the model,
// config.json, a zero byte, generation_config.json (empty: none).
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"
#include "tests/fuzz/fuzz_folder.h"
#include "tests/fuzz/fuzz_input.h"

namespace ccoe::model {

std::shared_ptr<const Weights> GoldenWeights(uint8_t number) {
  constexpr const char* kNames[] = {"deepseek-v1-moe", "deepseek-v2",     "deepseek-v3",
                                    "grok1",           "llama-gqa",       "llama3-rope-tied",
                                    "mistral-swa",     "mixtral-8x2",     "olmoe",
                                    "qwen2-tied",      "qwen2moe-shared", "qwen3moe"};
  static std::array<std::shared_ptr<const Weights>, std::size(kNames)> opened;
  const size_t at = static_cast<size_t>(number) % std::size(kNames);
  if (opened[at] == nullptr) {
    auto weights = Weights::Open(std::string("tests/golden/models/") + kNames[at]);
    CCOE_CHECK(weights.ok());
    opened[at] = *std::move(weights);
  }
  return opened[at];
}

void ReadConfig(FuzzInput input) {
  static const FuzzFolder folder;
  const std::shared_ptr<const Weights> weights = GoldenWeights(input.Byte());
  folder.Put("config.json", input.Part());
  const absl::string_view generation = input.Part();
  folder.Put("generation_config.json", generation.empty() ? "{}" : generation);
  const auto spec = LoadModelSpec(folder.path());
  if (!spec.ok()) {
    CCOE_CHECK(!spec.status().message().empty());
    return;
  }
  CCOE_CHECK(Validate(*spec).ok());
  CCOE_CHECK(!FingerprintText(*spec).empty());
  CCOE_CHECK(FfnShard::All(*spec).CheckWithin(*spec).ok());
  // Whatever sizes came through, the weights fit them or are refused.
  const auto decoder = Decoder::Create(*spec, {0, spec->layer_count()}, weights);
  CCOE_CHECK(decoder.ok() || !decoder.status().message().empty());
}

}  // namespace ccoe::model

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::model::ReadConfig({data, size});
  return 0;
}
