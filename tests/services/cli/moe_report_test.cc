#include "services/cli/moe_report.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace ccoe::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

engine::MoeSnapshot Snapshot() {
  engine::MoeSnapshot snapshot;
  snapshot.layers = {{3, 10, {5, 10, 5}, {4, 1, 3}}, {4, 0, {0, 0, 0}, {0, 0, 0}}};
  return snapshot;
}

TEST(MoeTableTest, NamesTheExtremesOfEachLayer) {
  const std::string table = MoeTable(Snapshot(), 2);
  EXPECT_THAT(table, AllOf(HasSubstr("    3          10     0.667  1 (100.0 %)      0 (50.0 %)"),
                           HasSubstr("0 + 1 (40.0 %)\n"), HasSubstr("    4           0\n")));
  EXPECT_THAT(table, AllOf(HasSubstr("layer 3, expert 1: 100.0 % of the rows"),
                           HasSubstr("layer 3, expert 0: 50.0 %"), Not(HasSubstr("expert 2"))));
}

TEST(MoeTableTest, SaysWhereNoPairIsKnown) {
  engine::MoeSnapshot snapshot = Snapshot();
  snapshot.layers[0].pairs.clear();
  EXPECT_THAT(MoeTable(snapshot, 0), AllOf(HasSubstr("-\n"), Not(HasSubstr("hottest experts"))));
}

TEST(MoeJsonTest, HoldsAllCounts) {
  const nlohmann::json json = nlohmann::json::parse(MoeJson(Snapshot()));
  ASSERT_EQ(json["layers"].size(), 2u);
  const nlohmann::json& layer = json["layers"][0];
  EXPECT_EQ(layer["layer"], 3);
  EXPECT_EQ(layer["rows"], 10);
  EXPECT_EQ(layer["tokens"], nlohmann::json({5, 10, 5}));
  EXPECT_NEAR(layer["balancedness"].get<double>(), 2.0 / 3, 1e-9);
  EXPECT_EQ(layer["co_activation"], nlohmann::json::parse("[[5,4,1],[4,10,3],[1,3,5]]"));
}

TEST(MoeJsonTest, LeavesOutPairsThatAreNotKnown) {
  engine::MoeSnapshot snapshot = Snapshot();
  snapshot.layers[0].pairs.clear();
  const nlohmann::json json = nlohmann::json::parse(MoeJson(snapshot));
  EXPECT_FALSE(json["layers"][0].contains("co_activation"));
}

}  // namespace
}  // namespace ccoe::cli
