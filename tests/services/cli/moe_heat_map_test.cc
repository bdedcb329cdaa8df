#include "services/cli/moe_heat_map.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

size_t Count(const std::string& text, const std::string& part) {
  return std::vector<std::string>(absl::StrSplit(text, part)).size() - 1;
}

TEST(MoeHeatMapTest, ColoursEachExpertByItsMultipleOfAnEvenShare) {
  engine::MoeSnapshot snapshot;
  snapshot.layers = {{3, 100, {100, 0, 60, 40}, {}}};
  const std::string map = MoeHeatMap(snapshot);
  EXPECT_THAT(map, StartsWith("<svg xmlns="));
  EXPECT_THAT(map, HasSubstr("class=\"s6\"><title>layer 3, expert 0: 100 tokens of 100 rows, "
                             "2.00 x an even share</title>"));
  EXPECT_THAT(map, HasSubstr("class=\"s0\"><title>layer 3, expert 1: 0 tokens"));
  EXPECT_THAT(map, HasSubstr("class=\"s4\"><title>layer 3, expert 2: 60 tokens"));
  EXPECT_THAT(map, HasSubstr("class=\"s3\"><title>layer 3, expert 3: 40 tokens"));
  EXPECT_THAT(map, HasSubstr(">0.500</text>"));  // balancedness
}

TEST(MoeHeatMapTest, FollowsTheViewersGroundAndHasALegend) {
  engine::MoeSnapshot snapshot;
  snapshot.layers = {{0, 0, {0, 0}, {}}};
  EXPECT_THAT(MoeHeatMap(snapshot),
              AllOf(HasSubstr("prefers-color-scheme: dark"), HasSubstr("x even"),
                    HasSubstr(">1.5</text>"), HasSubstr("<title>Load of FFN experts</title>")));
}

TEST(MoeHeatMapTest, ABigModelFitsOnAScreen) {
  engine::MoeSnapshot snapshot;
  for (int32_t layer = 3; layer < 61; ++layer) {
    snapshot.layers.push_back({layer, 10, std::vector<uint64_t>(256, 1), {}});
  }
  const std::string map = MoeHeatMap(snapshot);
  EXPECT_EQ(Count(map, "<title>layer"), 58u * 256u);
  EXPECT_THAT(map, HasSubstr("width=\"1160\" height=\"1038\""));
  EXPECT_EQ(Count(map, "<rect"), Count(map, "/>") + Count(map, "</rect>"));
}

TEST(MoeHeatMapTest, LayersMayDifferInTheirExperts) {
  engine::MoeSnapshot snapshot;
  snapshot.layers = {{1, 1, {1}, {}}, {2, 1, {1, 0, 0}, {}}};
  EXPECT_EQ(Count(MoeHeatMap(snapshot), "<title>layer"), 4u);
}

}  // namespace
}  // namespace ccoe::cli
