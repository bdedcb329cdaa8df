// SPDX-License-Identifier: Apache-2.0
#include "runtime/placement/expert_demand.h"

#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "tests/runtime/placement/moe_specs.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::placement {
namespace {

using ::ccoe::testing::StatusIs;
using kernels::DType;
using ::testing::ElementsAre;
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

TEST(ExpertLoadsTest, ReadsWhatStatisticsPrint) {
  testing::TempFolder folder;
  const std::string path = folder / "stats.json";
  std::ofstream(path) << R"({"tokens": 9, "layers": [{"layer": 1, "tokens": [1, 0, 3, 0],
                            "balancedness": 0.3}, {"layer": 2, "tokens": [0, 0, 0, 0]}]})";
  ASSERT_OK_AND_ASSIGN(const ExpertLoads loads, ReadLoads(path));
  const model::ModelSpec spec = MoeModel(1, 3, 4);
  EXPECT_OK(CheckLoads(loads, spec));
  EXPECT_THAT(loads.Shares(spec, 1), ElementsAre(0.25, 0, 0.75, 0));
  EXPECT_THAT(loads.Shares(spec, 2), ElementsAre(0.25, 0.25, 0.25, 0.25)) << "no tokens: even";
  EXPECT_THAT(loads.Shares(spec, 3), ElementsAre(0.25, 0.25, 0.25, 0.25)) << "missing: even";
}

TEST(ExpertLoadsTest, SaysWhatDoesNotFitTheModel) {
  const model::ModelSpec spec = MoeModel(1, 1, 4);
  ExpertLoads loads;
  loads.tokens[0] = {1};
  EXPECT_THAT(CheckLoads(loads, spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                                HasSubstr("layer 0: expected 0 FFN experts")));
  loads.tokens = {{7, {1}}};
  EXPECT_THAT(CheckLoads(loads, spec),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 7")));
  loads.tokens = {{1, {1, 2, -3, 4}}};
  EXPECT_THAT(CheckLoads(loads, spec),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 1, expert 2")));
}

TEST(ExpertLoadsTest, RefusesOtherJson) {
  for (const char* json : {"[", "[]", "{}", R"({"layers": [1]})", R"({"layers": [{"layer": -1}]})",
                           R"({"layers": [{"layer": 0, "tokens": ["x"]}]})",
                           R"({"layers": [{"layer": 99999999, "tokens": []}]})"}) {
    EXPECT_THAT(ParseLoads(json, "stats.json"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("stats.json")))
        << json;
  }
  EXPECT_THAT(ParseLoads(R"({"layers": [{"layer": 0, "tokens": []}, {"layer": 0, "tokens": []}]})",
                         "stats.json"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 0 stands twice")));
}

}  // namespace
}  // namespace ccoe::placement
