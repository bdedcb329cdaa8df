#include "runtime/model/pass_memory.h"

#include "gtest/gtest.h"
#include "runtime/model/hf_config.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/model_run.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

// Beside what a pass takes at most, a run holds weights, KV and its outputs.
TEST(PassMemoryTest, APassTakesNoMoreThanPlanned) {
  for (const char* name : {"llama-gqa", "mixtral-8x2", "deepseek-v3"}) {
    const std::string folder = testing::GoldenFolder(name);
    ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(folder));
    constexpr int64_t kCapacity = int64_t{1} << 40;
    testing::TaggedDevice device(kCapacity);
    testing::ModelRunOptions options;
    options.device = &device;
    ASSERT_OK_AND_ASSIGN(auto run, testing::ModelRun::Open(folder, options));
    const int64_t loaded = kCapacity - device.FreeBytes();
    const std::vector<int32_t> ids(48, 3);
    device.WatchLowestFree();
    ASSERT_OK(run->Feed(ids).status());
    const int64_t rows = static_cast<int64_t>(ids.size());
    const int64_t outputs =
        rows * (spec.hidden_size + spec.vocab_size) * static_cast<int64_t>(sizeof(float));
    EXPECT_LE(kCapacity - device.lowest_free() - loaded - outputs, PassBytes(spec, rows)) << name;
  }
}

}  // namespace
}  // namespace ccoe::model
