// SPDX-License-Identifier: Apache-2.0
#include "services/expert/load_experts.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/experts/unit_host.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(FindBundlesTest, FindsABundleOrTheBundlesBelow) {
  testing::TempFolder folder;
  EXPECT_THAT(FindBundles(folder.path()).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("found none")));
  ASSERT_OK(testing::ExtractGoldenBundles(folder.path(), {"sql", "code"}));
  ASSERT_OK_AND_ASSIGN(const auto all, FindBundles(folder.path()));
  EXPECT_THAT(all, ElementsAre(folder / "code", folder / "sql"));
  ASSERT_OK_AND_ASSIGN(const auto one, FindBundles(folder / "sql"));
  EXPECT_THAT(one, ElementsAre(folder / "sql"));
  EXPECT_THAT(FindBundles(folder / "none").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

TEST(HeldExpertTest, CarriesWhatTheManifestSays) {
  experts::BundleManifest manifest;
  manifest.expert = {"math", 3};
  manifest.domain = "sums";
  manifest.description = "adds";
  manifest.example_queries = {"1 + 1"};
  manifest.layers = {6, 8};
  manifest.base_fingerprint = "abc";
  v1::HeldExpert held = HeldExpertOf(manifest, 99);
  EXPECT_EQ(held.info().expert().name(), "math");
  EXPECT_EQ(held.info().expert().version(), 3);
  EXPECT_EQ(held.info().domain(), "sums");
  EXPECT_EQ(held.info().description(), "adds");
  EXPECT_EQ(held.info().example_queries(0), "1 + 1");
  EXPECT_EQ(held.info().first_layer(), 6);
  EXPECT_EQ(held.info().last_layer(), 8);
  EXPECT_EQ(held.info().weight_bytes(), 99);
  EXPECT_FALSE(held.info().owns_head());
  EXPECT_EQ(held.base_fingerprint(), "abc");
  manifest.owns_norm = true;
  EXPECT_TRUE(HeldExpertOf(manifest, 99).info().owns_head());
}

TEST(ExpertMemoryTest, ALayerExpertTakesItsWeightsAndItsKv) {
  ASSERT_OK_AND_ASSIGN(const auto spec,
                       model::LoadModelSpec(testing::GoldenFolder("ccoe/backbone")));
  experts::Bundle bundle;
  bundle.manifest.expert = {"math", 3};
  bundle.manifest.layers = {4, 8};
  ASSERT_OK_AND_ASSIGN(bundle.weights, model::Weights::Open(testing::GoldenFolder("ccoe/math")));
  experts::UnitHostOptions options;
  options.ffn_experts = false;
  options.kv_tokens = 1024;
  ASSERT_OK_AND_ASSIGN(const model::MemoryPlan on_cpu,
                       PlanLayerExpertMemory(spec, bundle, options, {}));
  EXPECT_EQ(on_cpu.total_bytes(), 0);
  testing::TaggedDevice device;
  model::WeightTarget target;
  target.device = &device;
  ASSERT_OK_AND_ASSIGN(const model::MemoryPlan buffers, PlanPasses(spec, options, target));
  ASSERT_OK_AND_ASSIGN(const model::MemoryPlan expert,
                       PlanLayerExpertMemory(spec, bundle, options, target));
  EXPECT_THAT(buffers.ToString(), HasSubstr("buffers"));
  EXPECT_THAT(expert.ToString(), HasSubstr("weights of math@3"));
  EXPECT_THAT(expert.ToString(), HasSubstr("KV cache of 1024 tokens"));
  EXPECT_EQ(device.uploaded_bytes(), 0);
  ThreadTeam team(1);
  ASSERT_OK_AND_ASSIGN(
      const auto running,
      experts::UnitHost::Create(spec, testing::MakeTaggedOps(&device, &team), options));
  EXPECT_EQ(device.taken_bytes(), buffers.total_bytes());
  experts::Bundle placed = bundle;
  placed.weights = model::Weights::On(bundle.weights, target);
  ASSERT_OK(running->AddExpert(placed));
  EXPECT_EQ(device.taken_bytes(), buffers.total_bytes() + expert.total_bytes());
}

TEST(ExpertMemoryTest, FfnExpertsTakeTheirWeights) {
  const std::string folder = testing::GoldenFolder("mixtral-8x2");
  ASSERT_OK_AND_ASSIGN(const auto spec, model::LoadModelSpec(folder));
  ASSERT_OK_AND_ASSIGN(const auto weights, model::Weights::Open(folder));
  testing::TaggedDevice device;
  model::WeightTarget target;
  target.device = &device;
  model::FfnShard one, two;
  one.Add(0, 1);
  two.Add(0, 1);
  two.Add(0, 2);
  experts::UnitHostOptions options;
  options.layer_experts = false;
  options.max_batch_pairs = 16;
  ASSERT_OK_AND_ASSIGN(const auto buffers, PlanPasses(spec, options, target));
  ASSERT_OK_AND_ASSIGN(const auto none, PlanFfnShardMemory(spec, {}, weights, target));
  ASSERT_OK_AND_ASSIGN(const auto first, PlanFfnShardMemory(spec, one, weights, target));
  ASSERT_OK_AND_ASSIGN(const auto both, PlanFfnShardMemory(spec, two, weights, target));
  EXPECT_EQ(none.total_bytes(), 0);
  EXPECT_LT(0, first.total_bytes());
  EXPECT_LT(first.total_bytes(), both.total_bytes());
  ThreadTeam team(1);
  ASSERT_OK_AND_ASSIGN(
      const auto running,
      experts::UnitHost::Create(spec, testing::MakeTaggedOps(&device, &team), options));
  EXPECT_EQ(device.taken_bytes(), buffers.total_bytes());
  ASSERT_OK(running->AddShard(two, model::Weights::On(weights, target)));
  EXPECT_EQ(device.taken_bytes(), buffers.total_bytes() + both.total_bytes());
  model::FfnShard wrong;
  wrong.Add(0, 100);
  EXPECT_FALSE(PlanFfnShardMemory(spec, wrong, weights, target).ok());
}

}  // namespace
}  // namespace ccoe::services
