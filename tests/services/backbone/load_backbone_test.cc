#include "services/backbone/load_backbone.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

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

}  // namespace
}  // namespace ccoe::services
