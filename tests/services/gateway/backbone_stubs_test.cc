#include "services/gateway/backbone_stubs.h"

#include "gtest/gtest.h"
#include "tests/testing/fake_backbone.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;

TEST(BackboneStubsTest, KeepsOneStubAnAddressUntilItIsForgotten) {
  InProcessRegistry registry;
  const ChannelFactory channels(&registry);
  BackboneStubs stubs(&channels);
  EXPECT_THAT(stubs.Get("inproc:b").status(), StatusIs(absl::StatusCode::kUnavailable));
  testing::FakeBackbone backbone(&registry, "b",
                                 [](const auto&, auto&, auto&) { return absl::OkStatus(); });
  ASSERT_OK_AND_ASSIGN(const auto first, stubs.Get("inproc:b"));
  ASSERT_OK_AND_ASSIGN(const auto again, stubs.Get("inproc:b"));
  EXPECT_EQ(first, again);
  stubs.Forget("inproc:b");
  ASSERT_OK_AND_ASSIGN(const auto fresh, stubs.Get("inproc:b"));
  EXPECT_NE(first, fresh);
  EXPECT_THAT(stubs.Get("nonsense").status(), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace ccoe::services
