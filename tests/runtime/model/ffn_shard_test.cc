// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/ffn_shard.h"

#include <random>
#include <string>

#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

// Layers 1 and 2 of 3 have 4 experts, layer 0 is dense.
ModelSpec Spec() {
  ModelSpec spec;
  spec.layers.resize(3);
  for (size_t i = 1; i < 3; ++i) {
    spec.layers[i].ffn.kind = FfnKind::kMoe;
    spec.layers[i].ffn.moe.experts = 4;
  }
  return spec;
}

TEST(FfnShardTest, AllHoldsEveryExpertOfEveryMoeLayer) {
  const FfnShard all = FfnShard::All(Spec());
  EXPECT_EQ(all.size(), 8);
  EXPECT_FALSE(all.Contains(0, 0));
  EXPECT_TRUE(all.Contains(1, 0));
  EXPECT_TRUE(all.Contains(2, 3));
  EXPECT_FALSE(all.Contains(2, 4));
  EXPECT_OK(all.CheckWithin(Spec()));
  EXPECT_TRUE(FfnShard::All(ModelSpec{}).empty());
}

TEST(FfnShardTest, ContainsIsTrueOfPartsAndOfNothing) {
  const FfnShard all = FfnShard::All(Spec());
  FfnShard part;
  EXPECT_TRUE(part.Contains(FfnShard{}));
  EXPECT_TRUE(all.Contains(part));
  part.Add(1, 2);
  EXPECT_TRUE(all.Contains(part));
  EXPECT_FALSE(part.Contains(all));
  part.Add(0, 2);
  EXPECT_FALSE(all.Contains(part));
}

TEST(FfnShardTest, TheSumOfShardsHoldsEachExpertOnce) {
  FfnShard sum, other;
  sum.Add(1, 0);
  sum.Add(1, 1);
  other.Add(1, 1);
  other.Add(2, 0);
  sum.Add(other);
  sum.Add(FfnShard{});
  EXPECT_EQ(sum.size(), 3);
  EXPECT_THAT(sum.layers().at(1), ElementsAre(0, 1));
  EXPECT_FALSE(sum == other);
  other.Add(1, 0);
  EXPECT_TRUE(sum == other);
}

TEST(FfnShardTest, WhatTheModelDoesNotHaveIsNamed) {
  const auto check = [](int32_t layer, int32_t expert) {
    FfnShard shard = FfnShard::All(Spec());
    shard.Add(layer, expert);
    return shard.CheckWithin(Spec());
  };
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(check(3, 5), StatusIs(bad, AllOf(HasSubstr("layer 3"), HasSubstr("0 to 2"),
                                               HasSubstr("experts 5"))));
  EXPECT_THAT(check(-1, 0), StatusIs(bad, HasSubstr("layer -1")));
  EXPECT_THAT(check(0, 1), StatusIs(bad, AllOf(HasSubstr("layer 0"), HasSubstr("dense"))));
  EXPECT_THAT(check(2, 4),
              StatusIs(bad, HasSubstr("layer 2: expected FFN experts 0 to 3, found 4")));
  EXPECT_THAT(check(1, -2), StatusIs(bad, HasSubstr("found -2")));
}

TEST(FfnShardTest, TextPutsLayersWithTheSameExpertsTogether) {
  FfnShard shard;
  EXPECT_EQ(shard.ToString(), "no FFN experts");
  for (const int32_t layer : {0, 1, 2, 3, 6}) {
    for (int32_t expert = 0; expert < 8; ++expert) shard.Add(layer, expert);
    shard.Add(layer, 12);
  }
  shard.Add(4, 1);
  EXPECT_EQ(shard.ToString(), "layers 0-3,6: 0-7,12; layers 4: 1");
}

TEST(NumberSetTest, ReadsNumbersAndRangesInAnyOrder) {
  EXPECT_THAT(*ParseNumberSet("0-2,5", 7), ElementsAre(0, 1, 2, 5));
  EXPECT_THAT(*ParseNumberSet("7,3-3,2-4", 7), ElementsAre(2, 3, 4, 7));
  EXPECT_THAT(*ParseNumberSet("007", 7), ElementsAre(7));
}

TEST(NumberSetTest, WhatIsWrongIsQuoted) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  for (const char* text : {"", ",", "1,", "-", "-1", "1-", "3-2", "8", "1-8", "1--2", "1-2-3", " 1",
                           "+1", "0x1", "99999999999999999999", "0-99999999999999999999", "a"}) {
    EXPECT_THAT(ParseNumberSet(text, 7),
                StatusIs(bad, AllOf(HasSubstr("0 to 7"), HasSubstr("in \"" + std::string(text)))))
        << text;
  }
  EXPECT_OK(ParseNumberSet("0-7,0-7", 7));
  EXPECT_THAT(ParseNumberSet("0-7,0-7,1", 7), StatusIs(bad, HasSubstr("again and again")));
  EXPECT_THAT(ParseNumberSet("0", -1), StatusIs(bad, HasSubstr("found \"0\"")));
  const std::string huge(100000, 'x');
  EXPECT_LT(ParseNumberSet(huge, 7).status().message().size(), 300u);
}

TEST(NumberSetTest, TextRunsFromLowToHighWithRanges) {
  EXPECT_EQ(NumberSetText({}), "");
  EXPECT_EQ(NumberSetText({3}), "3");
  EXPECT_EQ(NumberSetText({12, 0, 1, 2, 4, 5}), "0-2,4-5,12");
}

TEST(NumberSetTest, TextOfAnySetIsReadBackAsThatSet) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::set<int32_t> numbers;
    while (numbers.empty() || random() % 8 != 0)
      numbers.insert(static_cast<int32_t>(random() % 40));
    ASSERT_OK_AND_ASSIGN(const std::set<int32_t> read, ParseNumberSet(NumberSetText(numbers), 39));
    EXPECT_EQ(read, numbers);
  }
}

}  // namespace
}  // namespace ccoe::model
