// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/random_model.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "runtime/base/file.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/safetensors.h"
#include "tests/testing/model_run.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempFolder;

RandomModelOptions Small(kernels::DType dtype) {
  RandomModelOptions options;
  options.hidden_size = 64;
  options.layers = 3;
  options.heads = 4;
  options.kv_heads = 2;
  options.head_dim = 16;
  options.intermediate_size = 176;
  options.vocab_size = 1000;
  options.dtype = dtype;
  return options;
}

TEST(RandomModelTest, TheDefaultsAreAQuarterOfABillion) {
  EXPECT_NEAR(static_cast<double>(ParameterCount(RandomModelOptions{})), 0.25e9, 0.01e9);
}

TEST(RandomModelTest, TheFolderLoadsAndItsLogitsAreWellSpread) {
  for (const auto dtype : {kernels::DType::kF32, kernels::DType::kF16, kernels::DType::kBF16}) {
    const TempFolder folder;
    ThreadTeam team(2);
    ASSERT_OK(WriteRandomModel(Small(dtype), folder.path(), team));
    ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(folder.path()));
    ASSERT_OK_AND_ASSIGN(const ModelSpec expected, RandomModelSpec(Small(dtype)));
    EXPECT_EQ(FingerprintText(spec), FingerprintText(expected));
    ASSERT_OK_AND_ASSIGN(auto run,
                         testing::ModelRun::Open(folder.path(), testing::ModelRunOptions{}));
    ASSERT_OK_AND_ASSIGN(const auto out, run->Feed({1, 2, 3, 500, 999}));
    double squares = 0.0;
    for (const float logit : out.logits) squares += static_cast<double>(logit) * logit;
    const double deviation = std::sqrt(squares / static_cast<double>(out.logits.size()));
    EXPECT_GT(deviation, 2.0);
    EXPECT_LT(deviation, 4.5);
  }
}

TEST(RandomModelTest, TheBytesDependOnTheSeedButNotOnTheTeam) {
  const TempFolder folder;
  RandomModelOptions options = Small(kernels::DType::kBF16);
  ThreadTeam one(1), three(3);
  ASSERT_OK(WriteRandomModel(options, folder / "a", one));
  ASSERT_OK(WriteRandomModel(options, folder / "b", three));
  options.seed = 2;
  ASSERT_OK(WriteRandomModel(options, folder / "c", one));
  const auto content = [&](const char* name) {
    return ReadFile((folder / std::string(name)) + "/model.safetensors", 100'000'000).value();
  };
  EXPECT_TRUE(content("a") == content("b"));
  EXPECT_FALSE(content("a") == content("c"));
}

TEST(RandomModelTest, ATiedModelHasNoHead) {
  const TempFolder folder;
  RandomModelOptions options = Small(kernels::DType::kBF16);
  options.tied_head = true;
  ThreadTeam team(1);
  ASSERT_OK(WriteRandomModel(options, folder.path(), team));
  ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(folder / "model.safetensors"));
  EXPECT_EQ(file->tensors().count("lm_head.weight"), 0u);
}

TEST(RandomModelTest, TheMixtralShapeIsTwoFifthsOfABillion) {
  EXPECT_NEAR(static_cast<double>(ParameterCount(MixtralShapedOptions())), 0.4e9, 0.01e9);
}

TEST(RandomModelTest, ModelsOfExpertsLoadAndTheirLogitsAreWellSpread) {
  RandomModelOptions mixtral = Small(kernels::DType::kBF16);
  mixtral.experts = 4;
  mixtral.expert_intermediate_size = 96;
  RandomModelOptions deepseek = mixtral;
  deepseek.shared_experts = 2;
  deepseek.dense_layers = 1;
  for (const RandomModelOptions& options : {mixtral, deepseek}) {
    const TempFolder folder;
    ThreadTeam team(2);
    ASSERT_OK(WriteRandomModel(options, folder.path(), team));
    ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(folder.path()));
    ASSERT_OK_AND_ASSIGN(const ModelSpec expected, RandomModelSpec(options));
    EXPECT_EQ(FingerprintText(spec), FingerprintText(expected));
    EXPECT_EQ(spec.layers[0].ffn.is_moe(), options.dense_layers == 0);
    EXPECT_TRUE(spec.layers[2].ffn.is_moe());
    ASSERT_OK_AND_ASSIGN(auto run,
                         testing::ModelRun::Open(folder.path(), testing::ModelRunOptions{}));
    ASSERT_OK_AND_ASSIGN(const auto out, run->Feed({1, 2, 3, 500, 999}));
    double squares = 0.0;
    for (const float logit : out.logits) squares += static_cast<double>(logit) * logit;
    const double deviation = std::sqrt(squares / static_cast<double>(out.logits.size()));
    EXPECT_GT(deviation, 2.0);
    EXPECT_LT(deviation, 4.5);
  }
}

TEST(RandomModelTest, AbsurdSizesAreErrors) {
  RandomModelOptions options;
  options.kv_heads = 5;
  EXPECT_THAT(RandomModelSpec(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("random model")));
  options = RandomModelOptions{};
  options.layers = 0;
  EXPECT_THAT(RandomModelSpec(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layers")));
  options = RandomModelOptions{};
  options.experts = 1;
  EXPECT_THAT(RandomModelSpec(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("num_experts_per_tok")));
  EXPECT_EQ(ParameterCount(options), 0);
  options = RandomModelOptions{};
  options.dtype = kernels::DType::kI32;
  EXPECT_THAT(RandomModelSpec(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("i32")));
}

}  // namespace
}  // namespace ccoe::model
