#include "runtime/model/memory_plan.h"

#include "gmock/gmock.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/head.h"
#include "runtime/model/weights.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

TEST(MemoryPlanTest, ASumThatDoesNotFitIsSpelledOut) {
  testing::TaggedDevice device(/*capacity_bytes=*/2'500'000'000);
  MemoryPlan plan;
  plan.Add("weights", 2'000'000'000);
  EXPECT_OK(plan.CheckFits(device));
  plan.Add("KV cache of 64 tokens", 1'000'000'000);
  EXPECT_THAT(plan.CheckFits(device),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("tagged:0: weights 2.00 GB + KV cache of 64 tokens 1.00 GB = "
                                 "3.00 GB: expected at most the 2.50 GB that are free")));
}

// Bound over a device that counts, a model asks for what it takes when it is loaded, and no tensor
// is copied.
TEST(MemoryPlanTest, ACountedModelIsTheLoadedOne) {
  for (const char* name : {"llama-gqa", "deepseek-v2"}) {
    const std::string folder = testing::GoldenFolder(name);
    ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(folder));
    ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(folder));
    const auto load = [&](const WeightTarget& target) -> absl::StatusOr<int64_t> {
      const auto placed = Weights::On(weights, target);
      absl::Status status = TokenEmbedding::Create(spec, placed).status();
      status.Update(Decoder::Create(spec, {0, spec.layer_count()}, placed).status());
      status.Update(LmHead::Create(spec, placed).status());
      if (!status.ok()) return status;
      return placed->device_bytes();
    };
    CountingDevice counting;
    WeightTarget counted;
    counted.device = &counting;
    counted.matrices = kernels::DType::kBF16;
    counted.fill = false;
    ASSERT_OK_AND_ASSIGN(const int64_t planned, load(counted));
    testing::TaggedDevice device;
    WeightTarget target;
    target.device = &device;
    target.matrices = kernels::DType::kBF16;
    ASSERT_OK_AND_ASSIGN(const int64_t taken, load(target));
    EXPECT_EQ(planned, taken) << name;
    EXPECT_GE(counting.counted_bytes(), taken) << name;
  }
}

}  // namespace
}  // namespace ccoe::model
