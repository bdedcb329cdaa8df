#include "services/expert/memory.h"

#include "gmock/gmock.h"
#include "runtime/model/hf_config.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::services {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(ExpertMemoryTest, ALayerExpertTakesItsWeightsAndItsKv) {
  ASSERT_OK_AND_ASSIGN(const auto spec,
                       model::LoadModelSpec(testing::GoldenFolder("ccoe/backbone")));
  experts::Bundle bundle;
  bundle.manifest.expert = {"math", 3};
  bundle.manifest.layers = {4, 8};
  ASSERT_OK_AND_ASSIGN(bundle.weights, model::Weights::Open(testing::GoldenFolder("ccoe/math")));
  experts::ExpertRunnerOptions runner;
  runner.kv_tokens = 1024;
  ASSERT_OK_AND_ASSIGN(const model::MemoryPlan on_cpu,
                       PlanLayerExpertMemory(spec, bundle, runner, true, {}));
  EXPECT_EQ(on_cpu.total_bytes(), 0);
  testing::TaggedDevice device;
  model::WeightTarget target;
  target.device = &device;
  ASSERT_OK_AND_ASSIGN(const model::MemoryPlan first,
                       PlanLayerExpertMemory(spec, bundle, runner, true, target));
  EXPECT_THAT(first.ToString(), HasSubstr("weights of math@3"));
  EXPECT_THAT(first.ToString(), HasSubstr("KV cache of 1024 tokens"));
  EXPECT_THAT(first.ToString(), HasSubstr("buffers"));
  ASSERT_OK_AND_ASSIGN(const model::MemoryPlan next,
                       PlanLayerExpertMemory(spec, bundle, runner, false, target));
  EXPECT_THAT(next.ToString(), Not(HasSubstr("buffers")));
  EXPECT_EQ(device.uploaded_bytes(), 0);
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
  ASSERT_OK_AND_ASSIGN(const auto none, PlanFfnShardMemory(spec, {}, weights, 16, target));
  ASSERT_OK_AND_ASSIGN(const auto first, PlanFfnShardMemory(spec, one, weights, 16, target));
  ASSERT_OK_AND_ASSIGN(const auto both, PlanFfnShardMemory(spec, two, weights, 16, target));
  EXPECT_LT(none.total_bytes(), first.total_bytes());
  EXPECT_LT(first.total_bytes(), both.total_bytes());
  model::FfnShard wrong;
  wrong.Add(0, 100);
  EXPECT_FALSE(PlanFfnShardMemory(spec, wrong, weights, 16, target).ok());
}

}  // namespace
}  // namespace ccoe::services
