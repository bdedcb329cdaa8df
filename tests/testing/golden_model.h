// SPDX-License-Identifier: Apache-2.0
// The golden checkpoints of tests/golden/models: prompts, ids, greedy continuations, reference
// arrays.
#ifndef CCOE_TESTS_TESTING_GOLDEN_MODEL_H_
#define CCOE_TESTS_TESTING_GOLDEN_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/safetensors.h"

namespace ccoe::testing {

struct GoldenPrompt {
  std::string id;
  std::vector<int32_t> ids;         // the text's tokens, default special tokens added
  std::vector<int32_t> greedy_ids;  // 32 tokens, end of sequence not treated specially
  std::string text;
  std::string greedy_text;  // greedy_ids decoded by themselves, special tokens skipped
};

struct GoldenModel {
  std::string folder;
  std::string hidden_prompt;  // the prompt whose hidden states are stored
  std::vector<GoldenPrompt> prompts;
  std::unique_ptr<model::SafetensorsFile> arrays;

  // "logits.short", "hidden.0": row-major. NOT_FOUND names it.
  absl::StatusOr<std::vector<float>> Array(const std::string& name) const;
  // "router_experts.1".
  absl::StatusOr<std::vector<int64_t>> IntArray(const std::string& name) const;
};

// tests/golden/models/NAME.
std::string GoldenFolder(const std::string& name);

absl::StatusOr<GoldenModel> LoadGolden(const std::string& name);

// The dense models, "ccoe/backbone" included.
const std::vector<std::string>& DenseModels();

// The models of FFN experts.
const std::vector<std::string>& MoeModels();

// What logits and hidden states may differ from the reference by.
double GoldenTolerance(const std::string& name);

// The experts that live beside ccoe/backbone: "ccoe/NAME" differs from it in layers [4, 8).
const std::vector<std::string>& GoldenExperts();

// LoadGolden's prompts; a failure ends the test program.
std::vector<GoldenPrompt> ReadGoldenPrompts(const std::string& name);

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_GOLDEN_MODEL_H_
