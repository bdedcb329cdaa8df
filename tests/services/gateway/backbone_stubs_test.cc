#include "services/gateway/backbone_stubs.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "services/common/server_runner.h"
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

// Its expert is gone, it is not.
class RefusingBackbone final : public v1::Backbone::Service {
 public:
  grpc::Status Generate(grpc::ServerContext*, const v1::BackboneGenerateRequest*,
                        grpc::ServerWriter<v1::BackboneGenerateResponse>*) override {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "an expert");
  }
};

grpc::StatusCode Ask(v1::Backbone::StubInterface& stub) {
  grpc::ClientContext context;
  const auto reader = stub.Generate(&context, {});
  v1::BackboneGenerateResponse response;
  while (reader->Read(&response)) {
  }
  return reader->Finish().error_code();
}

TEST(BackboneStubsTest, AConnectionThatStandsIsNotForgotten) {
  RefusingBackbone backbone;
  ServerOptions options;
  options.services = {{&backbone, std::string(v1::Backbone::service_full_name())}};
  ASSERT_OK_AND_ASSIGN(auto server, ServerRunner::Start(std::move(options)));
  const std::string address = server->addresses().front();
  const ChannelFactory channels(nullptr);
  BackboneStubs stubs(&channels);
  ASSERT_OK_AND_ASSIGN(const auto first, stubs.Get(address));
  EXPECT_EQ(Ask(*first), grpc::StatusCode::UNAVAILABLE);
  stubs.Forget(address);
  ASSERT_OK_AND_ASSIGN(const auto again, stubs.Get(address));
  EXPECT_EQ(first, again);
  server.reset();
  // The channel hears of it on a thread of gRPC's.
  std::shared_ptr<v1::Backbone::StubInterface> fresh = first;
  for (int i = 0; i < 1000 && fresh == first; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
    stubs.Forget(address);
    ASSERT_OK_AND_ASSIGN(fresh, stubs.Get(address));
  }
  EXPECT_NE(fresh, first);
}

}  // namespace
}  // namespace ccoe::services
