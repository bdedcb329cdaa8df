// SPDX-License-Identifier: Apache-2.0
#include "services/common/model_report.h"

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(ModelIdentityTest, IsTheSameForEqualModelsAndAnotherForOthers) {
  model::ModelSpec spec;
  spec.family = "llama";
  spec.hidden_size = 64;
  const std::string identity = ModelIdentity(spec);
  EXPECT_EQ(identity.size(), 64u);
  EXPECT_EQ(ModelIdentity(spec), identity);
  spec.hidden_size = 65;
  EXPECT_NE(ModelIdentity(spec), identity);
}

TEST(FfnShardsTest, TravelAsTheyAre) {
  model::FfnShard shard;
  shard.Add(3, 1);
  shard.Add(3, 0);
  shard.Add(7, 63);
  const v1::FfnShard proto = FfnShardToProto(shard);
  ASSERT_EQ(proto.layers_size(), 2);
  EXPECT_EQ(proto.layers(0).experts(0), 0);
  ASSERT_OK_AND_ASSIGN(const model::FfnShard back, FfnShardFromProto(proto));
  EXPECT_EQ(back, shard);
  ASSERT_OK_AND_ASSIGN(const model::FfnShard none, FfnShardFromProto({}));
  EXPECT_TRUE(none.empty());
}

TEST(FfnShardsTest, RefuseNegativeNumbersLayersTwiceAndTooMuch) {
  v1::FfnShard proto;
  proto.add_layers()->add_experts(-2);
  EXPECT_THAT(FfnShardFromProto(proto),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expert -2")));
  proto.mutable_layers(0)->set_experts(0, 2);
  proto.add_layers();
  EXPECT_THAT(FfnShardFromProto(proto),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 0 stands twice")));
  proto.mutable_layers(1)->set_layer(-4);
  EXPECT_THAT(FfnShardFromProto(proto),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer -4")));
  proto.mutable_layers(1)->set_layer(4);
  for (int64_t i = 0; i < kMaxShardExperts; ++i) proto.mutable_layers(1)->add_experts(0);
  EXPECT_THAT(FfnShardFromProto(proto),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most")));
}

}  // namespace
}  // namespace ccoe::services
