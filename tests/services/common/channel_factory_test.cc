// SPDX-License-Identifier: Apache-2.0
#include "services/common/channel_factory.h"

#include "ccoe/v1/control.grpc.pb.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::IsOk;
using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(AddressTest, ReadsHostAndPort) {
  ASSERT_OK_AND_ASSIGN(const HostPort address, ParseHostPort("worker-1.local:8101"));
  EXPECT_EQ(address.host, "worker-1.local");
  EXPECT_EQ(address.port, 8101);
  EXPECT_EQ(address.ToString(), "worker-1.local:8101");
  EXPECT_FALSE(address.IsLoopback());
}

TEST(AddressTest, ReadsAnIpv6HostInBrackets) {
  ASSERT_OK_AND_ASSIGN(const HostPort address, ParseHostPort("[::1]:0"));
  EXPECT_EQ(address.host, "::1");
  EXPECT_EQ(address.port, 0);
  EXPECT_EQ(address.ToString(), "[::1]:0");
  EXPECT_TRUE(address.IsLoopback());
}

TEST(AddressTest, KnowsTheLoopbackHosts) {
  for (const char* text : {"127.0.0.1:1", "127.8.0.1:1", "localhost:1"}) {
    ASSERT_OK_AND_ASSIGN(const HostPort address, ParseHostPort(text));
    EXPECT_TRUE(address.IsLoopback()) << text;
  }
  ASSERT_OK_AND_ASSIGN(const HostPort everywhere, ParseHostPort("0.0.0.0:1"));
  EXPECT_FALSE(everywhere.IsLoopback());
}

TEST(AddressTest, RefusesWhatIsNoAddressAndSaysWhy) {
  EXPECT_THAT(ParseHostPort(""),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no port")));
  for (const char* text :
       {"host", "host:", ":80", "host:-1", "host:+1", "host:65536", "host:99999999999", "host:8o",
        "::1:80", "[::1:80", "a b:80", "a/b:80", "host: 80"}) {
    EXPECT_THAT(ParseHostPort(text), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)));
  }
}

TEST(AddressTest, TellsServersOfThisProcessApart) {
  EXPECT_TRUE(IsInProcess("inproc:backbone-0"));
  EXPECT_EQ(InProcessName("inproc:backbone-0"), "backbone-0");
  EXPECT_FALSE(IsInProcess("127.0.0.1:80"));
}

TEST(ChannelFactoryTest, MakesATcpChannelWithoutConnecting) {
  const ChannelFactory factory(nullptr);
  ASSERT_OK_AND_ASSIGN(const auto channel, factory.Connect("127.0.0.1:1"));
  EXPECT_EQ(channel->GetState(/*try_to_connect=*/false), GRPC_CHANNEL_IDLE);
}

TEST(ChannelFactoryTest, RefusesAMalformedAddress) {
  const ChannelFactory factory(nullptr);
  EXPECT_THAT(factory.Connect("nowhere"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nowhere")));
  EXPECT_THAT(factory.Connect("127.0.0.1:0"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("port 0")));
}

TEST(ChannelFactoryTest, NamesTheServerThatIsNotInThisProcess) {
  InProcessRegistry registry;
  const ChannelFactory factory(&registry);
  EXPECT_THAT(factory.Connect("inproc:router"),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("router")));
  EXPECT_THAT(ChannelFactory(nullptr).Connect("inproc:router"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ChannelFactoryTest, ACallAfterTheServerHasGoneIsUnavailable) {
  grpc::ServerBuilder builder;
  v1::Control::Service service;
  builder.RegisterService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  InProcessRegistry registry;
  ASSERT_OK(registry.Register("router", server.get()));
  ASSERT_OK_AND_ASSIGN(const auto channel, registry.Connect("router"));
  registry.Unregister("router");
  const auto stub = v1::Control::NewStub(channel);
  const auto ask = [&stub] {
    grpc::ClientContext context;
    v1::ClusterStatus answer;
    return stub->GetStatus(&context, {}, &answer).error_code();
  };
  EXPECT_EQ(ask(), grpc::UNIMPLEMENTED);
  server.reset();
  EXPECT_EQ(ask(), grpc::UNAVAILABLE);
}

TEST(ChannelFactoryTest, FindsAServerByNameUntilItIsUnregistered) {
  grpc::ServerBuilder builder;
  v1::Control::Service service;  // gRPC starts no server without one
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  InProcessRegistry registry;
  ASSERT_OK(registry.Register("router", server.get()));
  EXPECT_THAT(registry.Register("router", server.get()),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("router")));
  EXPECT_OK(ChannelFactory(&registry).Connect("inproc:router"));
  registry.Unregister("router");
  EXPECT_THAT(registry.Connect("router"), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace ccoe::services
