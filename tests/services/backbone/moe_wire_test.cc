#include "services/backbone/moe_wire.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(MoeWireTest, ControlGoesThereAndBack) {
  v1::MoeControl proto;
  proto.set_active_experts(4);
  proto.add_masked_experts(7);
  proto.add_forced_experts(8);
  v1::LayerMoeControl* layer = proto.add_layers();
  layer->set_layer(3);
  layer->set_active_experts(2);
  layer->add_masked_experts(5);
  layer->add_masked_experts(6);
  ASSERT_OK_AND_ASSIGN(const auto control, MoeControlFromProto(proto));
  ASSERT_NE(control, nullptr);
  EXPECT_EQ(control->all_layers.active_experts, 4);
  EXPECT_THAT(control->all_layers.masked, ElementsAre(7));
  EXPECT_THAT(control->all_layers.forced, ElementsAre(8));
  ASSERT_THAT(control->layers, SizeIs(1));
  EXPECT_EQ(control->layers.at(3).active_experts, 2);
  EXPECT_THAT(control->layers.at(3).masked, ElementsAre(5, 6));
  EXPECT_THAT(control->layers.at(3).forced, IsEmpty());
  EXPECT_EQ(MoeControlToProto(*control).SerializeAsString(), proto.SerializeAsString());
}

TEST(MoeWireTest, AMessageThatAsksForNothingIsNoControl) {
  ASSERT_OK_AND_ASSIGN(const auto none, MoeControlFromProto(v1::MoeControl()));
  EXPECT_EQ(none, nullptr);
  v1::MoeControl empty_layer;
  empty_layer.add_layers()->set_layer(3);
  ASSERT_OK_AND_ASSIGN(const auto still_none, MoeControlFromProto(empty_layer));
  EXPECT_EQ(still_none, nullptr);
}

TEST(MoeWireTest, ALayerThatStandsThereTwiceIsRefused) {
  v1::MoeControl proto;
  for (int i = 0; i < 2; ++i) {
    proto.add_layers()->set_layer(3);
    proto.mutable_layers(i)->set_active_experts(1 + i);
  }
  EXPECT_THAT(MoeControlFromProto(proto),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 3")));
}

engine::MoeSnapshot Snapshot() {
  engine::MoeSnapshot snapshot;
  snapshot.layers = {{1, 10, {5, 6, 9}, {1, 2, 3}}, {2, 4, {1, 2}, {1}}};
  return snapshot;
}

TEST(MoeWireTest, StatisticsGoThereAndBack) {
  v1::GetMoeStatisticsRequest request;
  request.set_co_activation(true);
  const v1::MoeStatistics proto = MoeSnapshotToProto(Snapshot(), request);
  ASSERT_OK_AND_ASSIGN(const engine::MoeSnapshot back, MoeSnapshotFromProto(proto));
  ASSERT_THAT(back.layers, SizeIs(2));
  EXPECT_EQ(back.layers[0].layer, 1);
  EXPECT_EQ(back.layers[0].rows, 10u);
  EXPECT_THAT(back.layers[0].tokens, ElementsAre(5, 6, 9));
  EXPECT_THAT(back.layers[0].pairs, ElementsAre(1, 2, 3));
}

TEST(MoeWireTest, OnlyWhatIsAskedForTravels) {
  v1::GetMoeStatisticsRequest request;
  request.set_layer(2);
  const v1::MoeStatistics proto = MoeSnapshotToProto(Snapshot(), request);
  ASSERT_EQ(proto.layers_size(), 1);
  EXPECT_EQ(proto.layers(0).layer(), 2);
  EXPECT_EQ(proto.layers(0).co_activation_size(), 0);
}

TEST(MoeWireTest, StatisticsThatContradictThemselvesAreRefused) {
  const auto refused = [](void (*change)(v1::MoeStatistics&), const char* what) {
    v1::GetMoeStatisticsRequest request;
    request.set_co_activation(true);
    v1::MoeStatistics proto = MoeSnapshotToProto(Snapshot(), request);
    change(proto);
    EXPECT_THAT(
        MoeSnapshotFromProto(proto),
        StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("layer 1"), HasSubstr(what))));
  };
  refused([](auto& p) { p.mutable_layers(0)->add_co_activation(4); }, "3 pairs of 3 experts");
  refused([](auto& p) { p.mutable_layers(0)->set_tokens(1, 11); }, "expert 1, found 11");
  refused([](auto& p) { p.mutable_layers(1)->set_layer(1); }, "after layer 1");
}

}  // namespace
}  // namespace ccoe::services
