// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/load_backbone.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/engine/engine.h"
#include "runtime/experts/extract.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr char kBase[] = "tests/golden/models/ccoe/backbone";

TEST(LoadBackboneTest, HoldsAllLayersOrTheLowerOnes) {
  ASSERT_OK_AND_ASSIGN(const LoadedBackbone all, LoadBackbone(kBase));
  EXPECT_EQ(all.model.decoder->layers(), (model::LayerRange{0, 8}));
  ASSERT_OK_AND_ASSIGN(const LoadedBackbone lower, LoadBackbone(kBase, 4));
  EXPECT_EQ(lower.model.decoder->layers(), (model::LayerRange{0, 4}));
  EXPECT_EQ(lower.model.spec.layer_count(), 8);
}

TEST(LoadBackboneTest, SaysWhatIsWrong) {
  EXPECT_THAT(LoadBackbone(kBase, 9),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found 9")));
  EXPECT_THAT(LoadBackbone("nowhere"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere")));
}

TEST(BaseFingerprintsTest, DependsOnTheSplitAndIsStable) {
  ASSERT_OK_AND_ASSIGN(const LoadedBackbone loaded, LoadBackbone(kBase));
  BaseFingerprints fingerprints(&loaded.model.spec, loaded.weights.get());
  ASSERT_OK_AND_ASSIGN(const std::string four, fingerprints.Below(4));
  ASSERT_OK_AND_ASSIGN(const std::string six, fingerprints.Below(6));
  EXPECT_NE(four, six);
  ASSERT_OK_AND_ASSIGN(const std::string again, fingerprints.Below(4));
  EXPECT_EQ(four, again);
}

experts::ExtractOptions Golden(const std::string& output, model::LayerRange layers) {
  experts::ExtractOptions options;
  options.base_folder = testing::GoldenFolder("ccoe/backbone");
  options.tuned_folder = testing::GoldenFolder("ccoe/math");
  options.layers = layers;
  options.name = "own";
  options.output_folder = output;
  return options;
}

TEST(ExpertHeadsTest, LayersBelowSuffixExpertsAreEnough) {
  testing::TempFolder folder;
  ASSERT_OK_AND_ASSIGN(const auto bundles,
                       testing::ExtractGoldenBundles(folder.path(), {"math", "law"}));
  ASSERT_OK_AND_ASSIGN(const LoadedBackbone base,
                       LoadBackbone(testing::GoldenFolder("ccoe/backbone")));
  ASSERT_OK_AND_ASSIGN(const int32_t layers, LayersBelowExperts(base.model.spec, bundles));
  EXPECT_EQ(layers, 4);
  EXPECT_THAT(LayersBelowExperts(base.model.spec, {}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
  // These bring no head.
  ASSERT_OK_AND_ASSIGN(const auto heads, LoadExpertHeads(base, bundles));
  EXPECT_TRUE(heads.empty());
}

TEST(ExpertHeadsTest, AnExpertInTheMiddleNeedsAllLayersAround) {
  testing::TempFolder folder;
  ASSERT_OK(experts::ExtractExpert(Golden(folder / "own", {4, 6})));
  ASSERT_OK_AND_ASSIGN(const LoadedBackbone base,
                       LoadBackbone(testing::GoldenFolder("ccoe/backbone")));
  ASSERT_OK_AND_ASSIGN(const int32_t layers, LayersBelowExperts(base.model.spec, {folder / "own"}));
  EXPECT_EQ(layers, 8);
}

TEST(ExpertHeadsTest, TakesTheHeadOfAnExpertThatBringsOne) {
  testing::TempFolder folder;
  experts::ExtractOptions options = Golden(folder / "own", {4, 8});
  options.own_norm = true;
  ASSERT_OK(experts::ExtractExpert(options));
  ASSERT_OK_AND_ASSIGN(const LoadedBackbone base,
                       LoadBackbone(testing::GoldenFolder("ccoe/backbone")));
  ASSERT_OK_AND_ASSIGN(const auto heads, LoadExpertHeads(base, {folder / "own"}));
  ASSERT_EQ(heads.size(), 1u);
  EXPECT_EQ(heads.begin()->first, (ExpertRef{"own", 1}));
  EXPECT_NE(heads.begin()->second, nullptr);
}

TEST(BackboneMemoryTest, TheCpuIsNotPlanned) {
  const std::string folder = testing::GoldenFolder("mixtral-8x2");
  ASSERT_OK_AND_ASSIGN(const auto spec, model::LoadModelSpec(folder));
  ASSERT_OK_AND_ASSIGN(const model::MemoryPlan plan,
                       PlanBackboneMemory(folder, 0, model::FfnShard::All(spec), {}, {}, {}));
  EXPECT_EQ(plan.total_bytes(), 0);
}

TEST(BackboneMemoryTest, WeightsKvAndBuffersAreAddedUp) {
  const std::string folder = testing::GoldenFolder("mixtral-8x2");
  ASSERT_OK_AND_ASSIGN(const auto spec, model::LoadModelSpec(folder));
  testing::TaggedDevice device;
  model::WeightTarget target;
  target.device = &device;
  engine::EngineOptions engine;
  engine.kv_tokens = 4096;
  ASSERT_OK_AND_ASSIGN(
      const model::MemoryPlan all,
      PlanBackboneMemory(folder, 0, model::FfnShard::All(spec), {}, engine, target));
  EXPECT_EQ(device.uploaded_bytes(), 0);
  EXPECT_THAT(all.ToString(), HasSubstr("weights "));
  EXPECT_THAT(all.ToString(), HasSubstr("KV cache of 4096 tokens"));
  ASSERT_OK_AND_ASSIGN(const model::MemoryPlan without,
                       PlanBackboneMemory(folder, 0, model::FfnShard(), {}, engine, target));
  EXPECT_LT(without.total_bytes(), all.total_bytes());
}

TEST(BackboneMemoryTest, ABackboneTakesWhatWasPlannedToTheByte) {
  for (const char* name : {"llama-gqa", "mixtral-8x2", "deepseek-v3", "grok1"}) {
    const std::string folder = testing::GoldenFolder(name);
    ASSERT_OK_AND_ASSIGN(const auto spec, model::LoadModelSpec(folder));
    testing::TaggedDevice device;
    model::WeightTarget target;
    target.device = &device;
    engine::EngineOptions options;
    options.kv_tokens = 1000;  // not whole pages
    options.max_step_tokens = 100;
    const model::FfnShard all = model::FfnShard::All(spec);
    ASSERT_OK_AND_ASSIGN(const model::MemoryPlan plan,
                         PlanBackboneMemory(folder, 0, all, {}, options, target));
    EXPECT_EQ(device.taken_bytes(), 0);
    ThreadTeam team(1);
    ASSERT_OK_AND_ASSIGN(const LoadedBackbone loaded, LoadBackbone(folder, 0, all, target));
    ASSERT_OK_AND_ASSIGN(
        const auto engine,
        engine::Engine::Create(loaded.model, testing::MakeTaggedOps(&device, &team), nullptr,
                               nullptr, options));
    EXPECT_EQ(device.taken_bytes(), plan.total_bytes()) << name;
  }
}

}  // namespace
}  // namespace ccoe::services
