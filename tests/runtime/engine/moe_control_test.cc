// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/moe_control.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::IsOk;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr float kInf = std::numeric_limits<float>::infinity();

model::FfnSpec MoeLayer(int64_t experts, int64_t top_k) {
  model::FfnSpec ffn;
  ffn.kind = model::FfnKind::kMoe;
  ffn.moe.experts = experts;
  ffn.moe.gate.top_k = top_k;
  return ffn;
}

// Layer 0 is dense, 1 and 2 have 8 experts and choose 2, 3 has 16 in 4 groups and chooses 4 of 2.
model::ModelSpec Spec() {
  model::ModelSpec spec;
  spec.layers.resize(4);
  spec.layers[1].ffn = MoeLayer(8, 2);
  spec.layers[2].ffn = MoeLayer(8, 2);
  spec.layers[3].ffn = MoeLayer(16, 4);
  spec.layers[3].ffn.moe.gate.groups = 4;
  spec.layers[3].ffn.moe.gate.top_groups = 2;
  return spec;
}

MoePolicy Everything() {
  MoePolicy policy;
  policy.allow_active_experts = policy.allow_masks = policy.allow_forced = true;
  return policy;
}

MoeControl ForLayer(int32_t layer, LayerMoeControl part) {
  MoeControl control;
  control.layers[layer] = std::move(part);
  return control;
}

absl::Status Check(const MoeControl& control) {
  return CheckMoeControl(control, Everything(), Spec());
}

TEST(CheckMoeControlTest, LetsThroughWhatTheLayersCanDo) {
  MoeControl control;
  control.all_layers = {1, {3}, {5}};
  control.layers[3] = {2, {0, 1}, {6}};
  EXPECT_THAT(Check(control), IsOk());
  EXPECT_THAT(CheckMoeControl(MoeControl(), MoePolicy(), model::ModelSpec()), IsOk());
}

TEST(CheckMoeControlTest, ByDefaultNothingIsAllowed) {
  const auto denied = [](const LayerMoeControl& part, const char* what) {
    EXPECT_THAT(CheckMoeControl(ForLayer(2, part), MoePolicy(), Spec()),
                StatusIs(absl::StatusCode::kPermissionDenied,
                         AllOf(HasSubstr("layer 2"), HasSubstr(what))));
    MoeControl everywhere;
    everywhere.all_layers = part;
    EXPECT_THAT(CheckMoeControl(everywhere, MoePolicy(), Spec()),
                StatusIs(absl::StatusCode::kPermissionDenied,
                         AllOf(HasSubstr("all layers"), HasSubstr(what))));
  };
  denied({1, {}, {}}, "number of active experts, found 1");
  denied({0, {4}, {}}, "mask experts, found expert 4");
  denied({0, {}, {5}}, "force experts, found expert 5");
}

TEST(CheckMoeControlTest, EachPermissionStandsAlone) {
  MoePolicy policy;
  policy.allow_masks = true;
  EXPECT_THAT(CheckMoeControl(ForLayer(1, {0, {4}, {}}), policy, Spec()), IsOk());
  EXPECT_THAT(CheckMoeControl(ForLayer(1, {0, {}, {4}}), policy, Spec()),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(CheckMoeControl(ForLayer(1, {1, {}, {}}), policy, Spec()),
              StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST(CheckMoeControlTest, TheOperatorsBoundsAreNamed) {
  MoePolicy policy = Everything();
  policy.min_active_experts = 2;
  policy.max_active_experts = 3;
  EXPECT_THAT(CheckMoeControl(ForLayer(3, {3, {}, {}}), policy, Spec()), IsOk());
  EXPECT_THAT(CheckMoeControl(ForLayer(3, {1, {}, {}}), policy, Spec()),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr("layer 3"), HasSubstr("2..3"), HasSubstr("found 1"))));
  EXPECT_THAT(CheckMoeControl(ForLayer(3, {4, {}, {}}), policy, Spec()),
              StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST(CheckMoeControlTest, NamesLayersThatHaveNoGate) {
  EXPECT_THAT(Check(ForLayer(0, {1, {}, {}})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("layer 0"), HasSubstr("dense"))));
  EXPECT_THAT(
      Check(ForLayer(4, {1, {}, {}})),
      StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("layer 4"), HasSubstr("0..3"))));
  EXPECT_THAT(Check(ForLayer(-1, {1, {}, {}})), StatusIs(absl::StatusCode::kInvalidArgument));
  model::ModelSpec dense;
  dense.layers.resize(2);
  EXPECT_THAT(CheckMoeControl(ForLayer(1, {1, {}, {}}), Everything(), dense),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one without")));
}

TEST(CheckMoeControlTest, NamesExpertsAndNumbersThatTheLayerHasNot) {
  EXPECT_THAT(Check(ForLayer(1, {0, {8}, {}})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("layer 1"), HasSubstr("0..7"), HasSubstr("found 8"))));
  EXPECT_THAT(Check(ForLayer(1, {0, {}, {-1}})),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found -1")));
  EXPECT_THAT(Check(ForLayer(2, {3, {}, {}})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("layer 2"), HasSubstr("1..2"), HasSubstr("found 3"))));
  MoeControl everywhere;  // layer 3 could, layers 1 and 2 cannot
  everywhere.all_layers.active_experts = 4;
  EXPECT_THAT(Check(everywhere),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 1")));
}

TEST(CheckMoeControlTest, ForcedExpertsFitIntoTheActiveOnes) {
  EXPECT_THAT(Check(ForLayer(1, {0, {}, {3, 7}})), IsOk());
  EXPECT_THAT(Check(ForLayer(1, {0, {}, {3, 7, 3}})), IsOk());  // a repeated one counts once
  EXPECT_THAT(Check(ForLayer(1, {1, {}, {3, 7}})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("layer 1"), HasSubstr("at most 1"), HasSubstr("found 2"))));
  MoeControl sum;  // of all layers and of one
  sum.all_layers.forced = {1, 2};
  sum.layers[2].forced = {3};
  EXPECT_THAT(Check(sum), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 2")));
}

TEST(CheckMoeControlTest, AnExpertIsNotMaskedAndForced) {
  MoeControl control;
  control.all_layers.masked = {5};
  control.layers[2].forced = {5};
  EXPECT_THAT(Check(control), StatusIs(absl::StatusCode::kInvalidArgument,
                                       AllOf(HasSubstr("layer 2"), HasSubstr("expert 5"))));
}

TEST(CheckMoeControlTest, EnoughExpertsAreLeft) {
  EXPECT_THAT(Check(ForLayer(1, {0, {0, 1, 2, 3, 4, 5}, {}})), IsOk());
  EXPECT_THAT(Check(ForLayer(1, {0, {0, 1, 2, 3, 4, 5, 6}, {}})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("layer 1"), HasSubstr("at least 2"), HasSubstr("found 1"))));
  EXPECT_THAT(Check(ForLayer(1, {1, {0, 1, 2, 3, 4, 5, 6}, {}})), IsOk());
}

TEST(CheckMoeControlTest, EnoughExpertsAreLeftInWhateverGroupsARowGets) {
  // Groups {0..3}, {4..7}: a row confined to these finds 3 and 1.
  EXPECT_THAT(Check(ForLayer(3, {0, {0, 4, 5, 6}, {}})), IsOk());
  EXPECT_THAT(Check(ForLayer(3, {0, {0, 1, 4, 5, 6}, {}})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("any 2 of its 4 groups"), HasSubstr("found 3"))));
  // One that is forced comes from anywhere.
  EXPECT_THAT(Check(ForLayer(3, {0, {0, 1, 4, 5, 6}, {15}})), IsOk());
}

TEST(CheckMoeControlTest, TheNumberOfEntriesIsBounded) {
  MoePolicy policy = Everything();
  policy.max_entries = 3;
  EXPECT_THAT(CheckMoeControl(ForLayer(1, {1, {2}, {3}}), policy, Spec()), IsOk());
  EXPECT_THAT(CheckMoeControl(ForLayer(1, {1, {2, 4}, {3}}), policy, Spec()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("at most 3"), HasSubstr("found 4"))));
}

TEST(MoePolicyTest, BoundsMakeSense) {
  EXPECT_THAT(Validate(MoePolicy()), IsOk());
  MoePolicy policy;
  policy.min_active_experts = 0;
  EXPECT_THAT(Validate(policy), StatusIs(absl::StatusCode::kInvalidArgument));
  policy.min_active_experts = 3;
  policy.max_active_experts = 2;
  EXPECT_THAT(Validate(policy), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3:2")));
}

class SteeringForTest : public ::testing::Test {
 protected:
  std::optional<model::GateSteering> For(int32_t layer, std::vector<RowsOfQuery> rows) {
    return SteeringFor(layer, rows, spec_.layers[layer].ffn.moe);
  }

  const model::ModelSpec spec_ = Spec();
};

TEST_F(SteeringForTest, IsNoneWhereNoControlConcernsTheLayer) {
  const MoeControl other_layer = ForLayer(2, {1, {}, {}});
  EXPECT_FALSE(For(1, {}).has_value());
  EXPECT_FALSE(For(1, {{nullptr, 3}, {&other_layer, 2}}).has_value());
  const MoeControl as_the_model = ForLayer(1, {2, {}, {}});
  EXPECT_FALSE(For(1, {{&as_the_model, 2}}).has_value());
}

TEST_F(SteeringForTest, GivesEachRowItsNumberOfExperts) {
  MoeControl control;
  control.all_layers.active_experts = 1;
  control.layers[3].active_experts = 3;
  const auto one = For(1, {{nullptr, 2}, {&control, 3}});
  ASSERT_TRUE(one.has_value());
  EXPECT_THAT(one->row_k, ElementsAre(2, 2, 1, 1, 1));
  EXPECT_THAT(one->row_steering, IsEmpty());
  EXPECT_THAT(one->steering, IsEmpty());
  const auto three = For(3, {{&control, 1}, {nullptr, 1}});
  ASSERT_TRUE(three.has_value());
  EXPECT_THAT(three->row_k, ElementsAre(3, 4));
}

TEST_F(SteeringForTest, MasksAndForcesTheExpertsOfEachQuery) {
  MoeControl first;
  first.all_layers.masked = {0};
  first.layers[1].forced = {6};
  const MoeControl second = ForLayer(1, {0, {7}, {}});
  const auto steering = For(1, {{&first, 2}, {nullptr, 1}, {&second, 1}});
  ASSERT_TRUE(steering.has_value());
  EXPECT_THAT(steering->row_k, IsEmpty());
  EXPECT_THAT(steering->row_steering, ElementsAre(0, 0, -1, 1));
  EXPECT_THAT(steering->steering, ElementsAre(-kInf, 0, 0, 0, 0, 0, kInf, 0,  //
                                              0, 0, 0, 0, 0, 0, 0, -kInf));
}

}  // namespace
}  // namespace ccoe::engine
