// SPDX-License-Identifier: Apache-2.0
// Reads the golden tokenizer cases for tests.
#ifndef CCOE_TESTS_RUNTIME_TOKENIZER_GOLDEN_CASES_H_
#define CCOE_TESTS_RUNTIME_TOKENIZER_GOLDEN_CASES_H_

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ccoe::tokenizer {

inline const std::vector<std::string>& Styles() {
  static const auto* const styles =
      new std::vector<std::string>{"gpt2", "llama3", "qwen2", "seqsplit", "spm"};
  return *styles;
}

inline const std::vector<std::string>& ModelStyles() {
  static const auto* const styles =
      new std::vector<std::string>{"gpt2", "llama3", "qwen2", "seqsplit"};
  return *styles;
}

inline std::string GoldenPath(const std::string& path) { return "tests/golden/tokenizers/" + path; }

inline nlohmann::json GoldenJson(const std::string& path) {
  std::ifstream file(GoldenPath(path));
  nlohmann::json json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(json.is_discarded()) << path;
  return json;
}

inline std::unique_ptr<Tokenizer> LoadGolden(const std::string& path) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(GoldenPath(path));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

using Ids = std::vector<int32_t>;

}  // namespace ccoe::tokenizer

#endif  // CCOE_TESTS_RUNTIME_TOKENIZER_GOLDEN_CASES_H_
