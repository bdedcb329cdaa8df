#include "services/gateway/backbone_stubs.h"

#include <memory>

#include "absl/time/clock.h"
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

TEST(BackboneStubsTest, AConnectionThatStandsIsNotForgotten) {
  InProcessRegistry registry;
  const ChannelFactory channels(&registry);
  BackboneStubs stubs(&channels);
  auto backbone = std::make_unique<testing::FakeBackbone>(
      &registry, "b",
      [](const auto&, auto&, auto&) { return absl::UnavailableError("an expert"); });
  ASSERT_OK_AND_ASSIGN(const auto first, stubs.Get("inproc:b"));
  grpc::ClientContext context;
  const auto reader = first->Generate(&context, {});
  v1::BackboneGenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  stubs.Forget("inproc:b");
  ASSERT_OK_AND_ASSIGN(const auto again, stubs.Get("inproc:b"));
  EXPECT_EQ(first, again);
  backbone.reset();
  // The channel hears of it on a thread of gRPC's.
  absl::StatusOr<std::shared_ptr<v1::Backbone::StubInterface>> gone = first;
  for (int i = 0; i < 1000 && gone.ok(); ++i) {
    absl::SleepFor(absl::Milliseconds(10));
    stubs.Forget("inproc:b");
    gone = stubs.Get("inproc:b");
  }
  EXPECT_THAT(gone.status(), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace ccoe::services
