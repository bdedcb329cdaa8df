#include "runtime/placement/expert_bytes.h"

#include <fstream>

#include "gtest/gtest.h"
#include "tests/runtime/placement/moe_specs.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::placement {
namespace {

using ::ccoe::testing::StatusIs;
using kernels::DType;
using ::testing::HasSubstr;

TEST(ExpertBytesTest, AnExpertIsThreeMatrices) {
  const model::ModelSpec spec = MoeModel(1, 1, 4);
  EXPECT_EQ(ExpertBytes(spec, 0, DType::kBF16), 0);
  EXPECT_EQ(ExpertBytes(spec, 1, DType::kBF16), 3 * 64 * 80 * 2);
  EXPECT_EQ(ExpertBytes(spec, 1, DType::kF32), 3 * 64 * 80 * 4);
}

TEST(ExpertBytesTest, SpellsSumsOut) {
  model::ModelSpec spec = MoeModel(0, 2, 4);
  spec.layers[1].ffn.moe.intermediate = 160;
  EXPECT_EQ(SizeOf(spec, model::FfnShard::All(spec), DType::kBF16).ToString(),
            "4 x 30720 + 4 x 61440 = 368640 bytes");
  EXPECT_EQ(SizeOf(spec, {}, DType::kBF16).ToString(), "0 bytes");
}

TEST(ExpertBytesTest, WithoutWeightsTheConfigSaysTheType) {
  testing::TempFolder folder;
  const model::ModelSpec spec = MoeModel(0, 1, 4);
  const auto with = [&](const std::string& config) {
    std::ofstream(folder / "config.json") << config;
    return ExpertDType(spec, folder.path());
  };
  EXPECT_EQ(with("{\"torch_dtype\": \"bfloat16\"}").value(), DType::kBF16);
  EXPECT_EQ(with("{\"dtype\": \"float16\"}").value(), DType::kF16);
  EXPECT_EQ(with("{}").value(), DType::kF32);
  EXPECT_THAT(with("{\"dtype\": \"int8\"}"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found int8")));
}

}  // namespace
}  // namespace ccoe::placement
