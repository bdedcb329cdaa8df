// SPDX-License-Identifier: Apache-2.0
#include "services/common/server_runner.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "ccoe/v1/control.grpc.pb.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "gtest/gtest.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Answers GetStatus with epoch 7, or waits in it until the call is cancelled.
class FakeControl final : public v1::Control::Service {
 public:
  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest*,
                         v1::ClusterStatus* response) override {
    if (hang) {
      entered.Notify();
      while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
      return grpc::Status::CANCELLED;
    }
    response->set_epoch(7);
    return ToGrpc(error, context);
  }
  bool hang = false;
  absl::Notification entered;
  absl::Status error;
};

ServerOptions Serving(FakeControl* control) {
  ServerOptions options;
  options.services = {{control, v1::Control::service_full_name()}};
  return options;
}

absl::Status Ask(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::ClusterStatus answer;
  const auto stub = v1::Control::NewStub(channel);
  return FromGrpc(stub->GetStatus(&context, {}, &answer), context);
}

// grpc.health.v1.Health/Check without its generated code: the request's field 1 is a string, the
// answer's a number, as in the messages used here. The status, or minus the error code.
int HealthOf(const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
  v1::Expert request;
  request.set_name(service);
  v1::TokenLogprob answer;
  grpc::TemplatedGenericStub<v1::Expert, v1::TokenLogprob> stub(channel);
  grpc::ClientContext context;
  grpc::Status status;
  absl::Notification done;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", grpc::StubOptions(), &request, &answer,
                 [&](grpc::Status result) {
                   status = std::move(result);
                   done.Notify();
                 });
  done.WaitForNotification();
  return status.ok() ? answer.token_id() : -static_cast<int>(status.error_code());
}

constexpr int kServing = 1;
constexpr int kNotServing = 2;

TEST(ServerRunnerTest, PicksAPortAndServesOnIt) {
  FakeControl control;
  ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(Serving(&control)));
  ASSERT_EQ(server->addresses().size(), 1u);
  ASSERT_OK_AND_ASSIGN(const auto channel, ChannelFactory(nullptr).Connect(server->addresses()[0]));
  EXPECT_OK(Ask(channel));
}

TEST(ServerRunnerTest, ServesInTheProcessWithoutAPort) {
  FakeControl control;
  InProcessRegistry registry;
  ServerOptions options = Serving(&control);
  options.listen.clear();
  options.in_process_name = "router";
  options.registry = &registry;
  ASSERT_OK_AND_ASSIGN(auto server, ServerRunner::Start(std::move(options)));
  ASSERT_OK_AND_ASSIGN(const auto channel, ChannelFactory(&registry).Connect("inproc:router"));
  EXPECT_OK(Ask(channel));
  server.reset();
  EXPECT_THAT(Ask(channel), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(registry.Connect("router"), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(CheckListeningTest, NamesWhatCannotBeListenedOnAndWhy) {
  FakeControl control;
  ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(Serving(&control)));
  const std::string taken = server->addresses().front();
  EXPECT_OK(CheckListening({"127.0.0.1:0", "localhost:0"}, "127.0.0.1:0"));
  EXPECT_OK(CheckListening({}, ""));
  EXPECT_THAT(CheckListening({"127.0.0.1:0", taken}, ""),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr(absl::StrCat("cannot listen on ", taken,
                                              " (gRPC): the port is in use by another process"))));
  EXPECT_THAT(CheckListening({}, taken), StatusIs(absl::StatusCode::kUnavailable,
                                                  HasSubstr("(metrics and health): the port")));
  EXPECT_THAT(
      CheckListening({"192.0.2.1:0"}, ""),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("not an address of this machine")));
  EXPECT_THAT(CheckListening({"127.0.0.1:65000"}, "127.0.0.1:65000"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("for both")));
  EXPECT_THAT(CheckListening({"nonsense"}, ""), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CheckListeningTest, LeavesTheAddressFree) {
  FakeControl control;
  std::string address;
  {
    ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(Serving(&control)));
    address = server->addresses().front();
  }
  EXPECT_OK(CheckListening({address}, ""));
  ServerOptions options = Serving(&control);
  options.listen = {address};
  EXPECT_OK(ServerRunner::Start(std::move(options)));
}

TEST(ServerRunnerTest, NamesThePortThatIsInUse) {
  FakeControl control;
  ASSERT_OK_AND_ASSIGN(const auto first, ServerRunner::Start(Serving(&control)));
  FakeControl other;
  ServerOptions options = Serving(&other);
  options.listen = first->addresses();
  EXPECT_THAT(ServerRunner::Start(std::move(options)),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr(first->addresses()[0]), HasSubstr("in use"))));
}

TEST(ServerRunnerTest, RefusesAMalformedAddressAndATakenName) {
  FakeControl control;
  ServerOptions options = Serving(&control);
  options.listen = {"8001"};
  EXPECT_THAT(ServerRunner::Start(std::move(options)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("8001")));
  InProcessRegistry registry;
  ServerOptions named = Serving(&control);
  named.in_process_name = "router";
  named.registry = &registry;
  ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(named));
  FakeControl other;
  named.services = {{&other, "x"}};
  EXPECT_THAT(ServerRunner::Start(named), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST(ServerRunnerTest, TellsHealthPerServiceAndFollowsReadiness) {
  FakeControl control;
  ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(Serving(&control)));
  ASSERT_OK_AND_ASSIGN(const auto channel, ChannelFactory(nullptr).Connect(server->addresses()[0]));
  for (const char* name : {"", "readiness", "ccoe.v1.Control"}) {
    EXPECT_EQ(HealthOf(channel, name), kNotServing) << name;
  }
  EXPECT_EQ(HealthOf(channel, "liveness"), kServing);
  server->SetReady(true);
  for (const char* name : {"", "readiness", "ccoe.v1.Control", "liveness"}) {
    EXPECT_EQ(HealthOf(channel, name), kServing) << name;
  }
  EXPECT_EQ(HealthOf(channel, "ccoe.v1.Nothing"), -static_cast<int>(grpc::NOT_FOUND));
}

TEST(ServerRunnerTest, ShowsReflectionOnLoopbackUnlessToldOtherwise) {
  for (const auto& [wanted, expected] :
       std::vector<std::pair<std::optional<bool>, grpc::StatusCode>>{
           {std::nullopt, grpc::OK}, {true, grpc::OK}, {false, grpc::UNIMPLEMENTED}}) {
    FakeControl control;
    ServerOptions options = Serving(&control);
    options.reflection = wanted;
    ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(std::move(options)));
    ASSERT_OK_AND_ASSIGN(const auto channel,
                         ChannelFactory(nullptr).Connect(server->addresses()[0]));
    // A stream that is opened and closed: OK where the method exists.
    grpc::ClientContext context;
    grpc::internal::RpcMethod method(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        grpc::internal::RpcMethod::BIDI_STREAMING, channel);
    std::unique_ptr<grpc::ClientReaderWriter<v1::Expert, v1::Expert>> stream(
        grpc::internal::ClientReaderWriterFactory<v1::Expert, v1::Expert>::Create(
            channel.get(), method, &context));
    stream->WritesDone();
    EXPECT_EQ(stream->Finish().error_code(), expected);
  }
}

TEST(ServerRunnerTest, CarriesTheRetryHintInATrailer) {
  FakeControl control;
  control.error = WithRetryAfter(absl::ResourceExhaustedError("queue full"), absl::Seconds(2));
  ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(Serving(&control)));
  ASSERT_OK_AND_ASSIGN(const auto channel, ChannelFactory(nullptr).Connect(server->addresses()[0]));
  const absl::Status status = Ask(channel);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("queue full")));
  EXPECT_EQ(RetryAfter(status), absl::Seconds(2));
}

TEST(ServerRunnerTest, CancelsCallsThatOutliveTheDrain) {
  FakeControl control;
  control.hang = true;
  ServerOptions options = Serving(&control);
  int drains = 0;
  options.on_drain = [&drains] { ++drains; };
  ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(std::move(options)));
  ASSERT_OK_AND_ASSIGN(const auto channel, ChannelFactory(nullptr).Connect(server->addresses()[0]));
  absl::Status status;
  std::thread caller([&] { status = Ask(channel); });
  control.entered.WaitForNotification();
  server->Drain(absl::Milliseconds(20));
  server->Drain(absl::Milliseconds(20));
  caller.join();
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(drains, 1);
}

// A service that answers nothing: what is not refused before it is UNIMPLEMENTED.
class ParseErrorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options;
    options.services = {{&service_, std::string(v1::Inference::service_full_name())}};
    ASSERT_OK_AND_ASSIGN(server_, ServerRunner::Start(std::move(options)));
    ASSERT_OK_AND_ASSIGN(auto channel, ChannelFactory(nullptr).Connect(server_->addresses()[0]));
    stub_ = v1::Inference::NewStub(channel);
  }

  v1::Inference::Service service_;
  std::unique_ptr<ServerRunner> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
  grpc::ClientContext context_;
};

TEST_F(ParseErrorsTest, AStringThatIsNotUtf8IsRefusedWithWords) {
  v1::TokenizeRequest request;
  request.set_text("ab\xFF");
  v1::TokenizeResponse response;
  EXPECT_THAT(FromGrpc(stub_->Tokenize(&context_, request, &response)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("ccoe.v1.Inference/Tokenize"), HasSubstr("UTF-8"))));
}

TEST_F(ParseErrorsTest, SoIsTheRequestOfAStream) {
  v1::GenerateRequest request;
  request.add_stop("\xC3");
  auto reader = stub_->Generate(&context_, request);
  v1::GenerateResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_THAT(FromGrpc(reader->Finish()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("UTF-8")));
}

TEST_F(ParseErrorsTest, GoodRequestsReachTheService) {
  v1::TokenizeRequest request;
  request.set_text("ab");
  v1::TokenizeResponse response;
  EXPECT_THAT(FromGrpc(stub_->Tokenize(&context_, request, &response)),
              StatusIs(absl::StatusCode::kUnimplemented));
}

}  // namespace
}  // namespace ccoe::services
