#include "services/backbone/expert_heads.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/experts/extract.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;

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

}  // namespace
}  // namespace ccoe::services
