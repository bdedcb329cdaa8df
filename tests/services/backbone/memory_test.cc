#include "services/backbone/memory.h"

#include "gmock/gmock.h"
#include "runtime/engine/engine.h"
#include "runtime/model/families/hf_config.h"
#include "services/backbone/load_backbone.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::services {
namespace {

using ::testing::HasSubstr;

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
