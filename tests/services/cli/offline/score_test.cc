// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "runtime/model/safetensors.h"
#include "services/cli/commands.h"
#include "tests/testing/command_line.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::HasSubstr;

// The tolerance that the reference's own README of the golden files states.
constexpr float kTolerance = 1e-3f;

std::string RequestsFile(const std::string& model, bool as_text) {
  std::string lines;
  for (const testing::GoldenPrompt& prompt : testing::ReadGoldenPrompts(model)) {
    nlohmann::json line = {{"id", prompt.id}};
    if (as_text) {
      line["text"] = prompt.text;
    } else {
      line["token_ids"] = prompt.ids;
    }
    lines += line.dump() + "\n";
  }
  return testing::WriteTemp("requests.jsonl", lines);
}

std::unique_ptr<model::SafetensorsFile> Score(const std::string& model, bool as_text,
                                              std::vector<std::string> more) {
  const std::string output = testing::TempPath("scores.safetensors");
  std::vector<std::string> words = {"score",
                                    "--model",
                                    testing::GoldenFolder(model),
                                    "--requests",
                                    RequestsFile(model, as_text),
                                    "--output",
                                    output};
  words.insert(words.end(), more.begin(), more.end());
  const auto result = testing::RunCcoe(words, {RegisterScore});
  EXPECT_EQ(result.exit_code, kExitOk) << result.err;
  auto file = model::SafetensorsFile::Open(output);
  EXPECT_OK(file);
  return file.ok() ? *std::move(file) : nullptr;
}

std::string BundleOf(const std::string& expert) {
  const std::string bundle = testing::TempPath("bundle-" + expert);
  if (std::filesystem::exists(bundle)) return bundle;
  const auto result =
      testing::RunCcoe({"experts", "extract", "--base", "tests/golden/models/ccoe/backbone",
                        "--tuned", "tests/golden/models/ccoe/" + expert, "--layers", "4:8",
                        "--name", expert, "--output", bundle},
                       {RegisterExperts});
  EXPECT_EQ(result.exit_code, kExitOk) << result.err;
  return bundle;
}

float LargestDifference(const model::TensorView& a, const model::TensorView& b) {
  EXPECT_EQ(a.size_bytes, b.size_bytes);
  const float* x = static_cast<const float*>(a.data);
  const float* y = static_cast<const float*>(b.data);
  float largest = 0;
  for (size_t i = 0; i < a.size_bytes / sizeof(float); ++i)
    largest = std::fmax(largest, std::fabs(x[i] - y[i]));
  return largest;
}

// `scores` against golden.safetensors of `model`: every prompt's logits, and the hidden states of
// the one prompt that has them.
void ExpectGolden(const model::SafetensorsFile& scores, const std::string& model, bool hidden) {
  ASSERT_OK_AND_ASSIGN(
      const auto golden,
      model::SafetensorsFile::Open(testing::GoldenFolder(model) + "/golden.safetensors"));
  for (const testing::GoldenPrompt& prompt : testing::ReadGoldenPrompts(model)) {
    EXPECT_LE(LargestDifference(scores.tensors().at(prompt.id + ".logits"),
                                golden->tensors().at("logits." + prompt.id)),
              kTolerance)
        << model << " " << prompt.id;
    const model::TensorView& ids = scores.tensors().at(prompt.id + ".token_ids");
    ASSERT_EQ(ids.size_bytes, prompt.ids.size() * sizeof(int32_t));
    EXPECT_EQ(std::memcmp(ids.data, prompt.ids.data(), ids.size_bytes), 0);
  }
  if (!hidden) return;
  ASSERT_OK_AND_ASSIGN(const testing::GoldenModel full, testing::LoadGolden(model));
  const std::string& prompt = full.hidden_prompt;
  const model::TensorView& all = scores.tensors().at(prompt + ".hidden");
  const size_t plane = all.size_bytes / all.shape[0];
  for (int64_t layer = 0; layer < all.shape[0]; ++layer) {
    model::TensorView one = all;
    one.data = static_cast<const char*>(all.data) + layer * plane;
    one.size_bytes = plane;
    EXPECT_LE(LargestDifference(one, golden->tensors().at("hidden." + std::to_string(layer))),
              kTolerance)
        << model << " layer " << layer;
  }
}

class ScoreDenseTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ScoreDenseTest, GivesTheReferencesLogitsAndHiddenStates) {
  ExpectGolden(*Score(GetParam(), /*as_text=*/false, {"--hidden"}), GetParam(), true);
  ExpectGolden(*Score(GetParam(), /*as_text=*/true, {"--prefill-chunk", "7"}), GetParam(), false);
}

INSTANTIATE_TEST_SUITE_P(Models, ScoreDenseTest, ::testing::ValuesIn(testing::DenseModels()),
                         [](const auto& info) { return std::to_string(info.index); });

class ScoreExpertTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ScoreExpertTest, OnTheBackboneEqualsTheFullCheckpoint) {
  const std::string full = "ccoe/" + GetParam();
  const std::string requests = RequestsFile(full, false);
  const auto local = Score("ccoe/backbone", false, {"--bundle", BundleOf(GetParam()), "--hidden"});
  ExpectGolden(*local, full, true);
  const auto grpc =
      Score("ccoe/backbone", false,
            {"--bundle", BundleOf(GetParam()), "--exchange", "grpc", "--expert-workers", "2"});
  ExpectGolden(*grpc, full, false);
}

INSTANTIATE_TEST_SUITE_P(Experts, ScoreExpertTest, ::testing::ValuesIn(testing::GoldenExperts()));

TEST(ScoreTest, GivesTheSameBitsForEveryChunkTransportAndWorkerCount) {
  const std::string bundle = BundleOf("law");
  const std::string output = testing::TempPath("scores.safetensors");
  const auto bytes_of = [&output] {
    std::ifstream file(output, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  Score("ccoe/backbone", false, {"--bundle", bundle, "--hidden"});
  const std::string expected = bytes_of();
  for (const std::vector<std::string>& flags : std::vector<std::vector<std::string>>{
           {"--prefill-chunk", "1"},
           {"--prefill-chunk", "3"},
           {"--prefill-chunk", "16"},
           {"--expert-workers", "2"},
           {"--expert-workers", "5"},
           {"--threads", "1"},
           {"--exchange", "grpc"},
           {"--exchange", "grpc", "--prefill-chunk", "5", "--expert-workers", "5"}}) {
    std::vector<std::string> more = {"--bundle", bundle, "--hidden"};
    more.insert(more.end(), flags.begin(), flags.end());
    Score("ccoe/backbone", false, more);
    EXPECT_TRUE(bytes_of() == expected) << ::testing::PrintToString(flags);
  }
}

TEST(ScoreTest, ExplainsBadInput) {
  const std::string base = "tests/golden/models/ccoe/backbone";
  const auto run = [&](const std::string& model, const std::string& lines,
                       std::vector<std::string> more) {
    std::vector<std::string> words = {"score",
                                      "--model",
                                      model,
                                      "--requests",
                                      testing::WriteTemp("r.jsonl", lines),
                                      "--output",
                                      testing::TempPath("o.safetensors")};
    words.insert(words.end(), more.begin(), more.end());
    return testing::RunCcoe(words, {RegisterScore});
  };
  const std::string good = "{\"id\":\"a\",\"token_ids\":[1,2]}";
  EXPECT_THAT(run("nowhere", good, {}).err, HasSubstr("nowhere"));
  EXPECT_THAT(run(base, "{\"id\":\"a\",\"token_ids\":[99999]}", {}).err, HasSubstr("99999"));
  EXPECT_THAT(run(base, "{\"id\":\"a\",\"token_ids\":[]}", {}).err, HasSubstr("request \"a\""));
  EXPECT_THAT(run(base, good, {"--bundle", "nowhere"}).err, HasSubstr("nowhere"));
  EXPECT_THAT(run("tests/golden/models/llama-gqa", good, {"--bundle", BundleOf("math")}).err,
              HasSubstr("math"));
}

// Copies a golden model to FOLDER with `value` in the weights of its last norm.
std::string WithNormWeight(const std::string& model, const std::string& name, float value) {
  const std::string folder = testing::TempPath(name);
  std::filesystem::create_directories(folder);
  for (const char* file : {"config.json", "tokenizer.json"}) {
    std::filesystem::copy_file(testing::GoldenFolder(model) + "/" + file, folder + "/" + file);
  }
  const auto source =
      model::SafetensorsFile::Open(testing::GoldenFolder(model) + "/model.safetensors");
  EXPECT_OK(source);
  auto tensors = (*source)->tensors();
  model::TensorView& norm = tensors.at("model.norm.weight");
  std::vector<float> values(static_cast<size_t>(norm.shape[0]), 1.0f);
  values.back() = value;
  norm = {values.data(), kernels::DType::kF32, norm.shape, values.size() * sizeof(float)};
  EXPECT_OK(model::WriteSafetensors(folder + "/model.safetensors", tensors));
  return folder;
}

TEST(ScoreTest, RefusesWeightsThatGiveNoNumbersAsGenerateDoes) {
  const std::string requests =
      testing::WriteTemp("r.jsonl", "{\"id\":\"a\",\"token_ids\":[1,2,3]}");
  for (const float value : {std::nanf(""), HUGE_VALF}) {
    const std::string folder =
        WithNormWeight("llama-gqa", std::isnan(value) ? "nan" : "infinity", value);
    const std::string output = testing::TempPath("none.safetensors");
    const auto scored = testing::RunCcoe(
        {"score", "--model", folder, "--requests", requests, "--output", output}, {RegisterScore});
    EXPECT_EQ(scored.exit_code, kExitFailed);
    EXPECT_THAT(scored.err, HasSubstr("request \"a\": logits at position 0: expected finite"));
    EXPECT_FALSE(std::filesystem::exists(output));
    const auto generated = testing::RunCcoe(
        {"generate", "--offline", "--model", folder, "--requests", requests}, {RegisterGenerate});
    EXPECT_EQ(generated.exit_code, kExitFailed);
    EXPECT_THAT(generated.err, HasSubstr("expected finite numbers"));
  }
}

TEST(ScoreTest, RefusesAConfigThatLeavesOutWhatTheCheckpointHolds) {
  const std::string folder = testing::TempPath("left-out");
  std::filesystem::create_directories(folder);
  const std::string source = testing::GoldenFolder("deepseek-v3");
  std::filesystem::copy_file(source + "/model.safetensors", folder + "/model.safetensors");
  std::ifstream file(source + "/config.json");
  nlohmann::json config = nlohmann::json::parse(file);
  config.erase("n_shared_experts");
  std::ofstream(folder + "/config.json") << config.dump();
  const auto scored =
      testing::RunCcoe({"score", "--model", folder, "--requests",
                        testing::WriteTemp("r.jsonl", "{\"id\":\"a\",\"token_ids\":[1,2,3]}"),
                        "--output", testing::TempPath("none.safetensors")},
                       {RegisterScore});
  EXPECT_EQ(scored.exit_code, kExitFailed);
  EXPECT_THAT(scored.err, HasSubstr("mlp.shared_experts.down_proj.weight: expected"));
}

TEST(ScoreTest, WritesThroughDevicesAndLeavesLinksInPlace) {
  const std::string requests =
      testing::WriteTemp("r.jsonl", "{\"id\":\"a\",\"token_ids\":[1,2,3]}");
  const auto score = [&requests](const std::string& output) {
    return testing::RunCcoe({"score", "--model", testing::GoldenFolder("llama-gqa"), "--requests",
                             requests, "--output", output},
                            {RegisterScore});
  };
  const auto full = score("/dev/full");
  EXPECT_EQ(full.exit_code, kExitFailed);
  EXPECT_THAT(full.err, HasSubstr("ccoe score: /dev/full: cannot be written: No space left"));
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full"));
  const std::string link = testing::TempPath("link"), target = testing::TempPath("target");
  std::filesystem::create_symlink(target, link);
  EXPECT_EQ(score(link).exit_code, kExitOk);
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_OK(model::SafetensorsFile::Open(target));
}

}  // namespace

}  // namespace ccoe::cli
