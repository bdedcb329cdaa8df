// SPDX-License-Identifier: Apache-2.0
#include "services/cli/offline/experts.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/cli/commands.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::HasSubstr;

constexpr char kModels[] = "tests/golden/models/ccoe/";

testing::CommandOutput Extract(std::vector<std::string> more) {
  std::vector<std::string> words = {"experts", "extract",
                                    "--base",  std::string(kModels) + "backbone",
                                    "--tuned", std::string(kModels) + "math"};
  words.insert(words.end(), more.begin(), more.end());
  return testing::RunCcoe(words, {RegisterExperts});
}

TEST(ParseLayersTest, ReadsFirstAndLastAndRefusesTheRest) {
  ASSERT_OK_AND_ASSIGN(const model::LayerRange range, ParseLayers("4:8"));
  EXPECT_EQ(range.first, 4);
  EXPECT_EQ(range.last, 8);
  for (const char* text : {"", "4", "8:4", "4:4", "-1:2", "a:b", "1:2:3"}) {
    EXPECT_THAT(ParseLayers(text),
                testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("FIRST:LAST")))
        << text;
  }
}

TEST(ExpertsExtractTest, CutsABundleAndReportsDrift) {
  const std::string output = testing::TempPath("math");
  const auto result = Extract(
      {"--layers", "4:8", "--name", "math", "--output", output, "--training", "data=x", "--json"});
  ASSERT_EQ(result.exit_code, kExitOk) << result.err;
  EXPECT_TRUE(std::filesystem::exists(output + "/expert.json"));
  EXPECT_TRUE(std::filesystem::exists(output + "/model.safetensors"));
  const nlohmann::json report = nlohmann::json::parse(result.out);
  EXPECT_EQ(report["expert"], "math@1");
  for (const auto& part : report["drift"]) {
    EXPECT_EQ(part["max_abs"].get<double>() > 0, part["in_bundle"].get<bool>()) << part;
  }
}

TEST(ExpertsExtractTest, ExplainsWhatIsWrongAndLeavesNothing) {
  const std::string output = testing::TempPath("none");
  const auto layers = Extract({"--layers", "4:99", "--name", "math", "--output", output});
  EXPECT_EQ(layers.exit_code, kExitFailed);
  EXPECT_THAT(layers.err, HasSubstr("99"));
  EXPECT_EQ(Extract({"--layers", "4", "--name", "math", "--output", output}).exit_code, kExitUsage);
  EXPECT_EQ(Extract({"--layers", "4:8", "--name", "../math", "--output", output}).exit_code,
            kExitFailed);
  EXPECT_EQ(Extract({"--layers", "4:8", "--name", "math", "--output", output, "--training", "x"})
                .exit_code,
            kExitUsage);
  EXPECT_FALSE(std::filesystem::exists(output));
}

}  // namespace

}  // namespace ccoe::cli
