// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/inference_service.h"

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "services/common/server_runner.h"
#include "services/common/status_to_grpc.h"
#include "services/gateway/query.h"
#include "tests/testing/fake_backbone.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_routing_stub.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::FakeBackbone;
using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(AdmissionTest, AdmitsUpToTheLimitAndAgainWhenAPlaceIsGivenBack) {
  testing::FakeClock clock;
  Admission admission(2, &clock);
  ASSERT_OK_AND_ASSIGN(auto first, admission.Enter());
  ASSERT_OK_AND_ASSIGN(auto second, admission.Enter());
  EXPECT_EQ(admission.taken(), 2);
  EXPECT_THAT(admission.Enter().status(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("2 queries")));
  first.reset();
  ASSERT_OK_AND_ASSIGN(auto third, admission.Enter());
  EXPECT_EQ(admission.taken(), 2);
}

TEST(AdmissionTest, TheRetryHintFollowsTheRateAtWhichQueriesEnd) {
  testing::FakeClock clock;
  Admission admission(2, &clock);
  ASSERT_OK_AND_ASSIGN(auto stays, admission.Enter());
  for (int i = 0; i < 50; ++i) {
    ASSERT_OK_AND_ASSIGN(auto goes, admission.Enter());
    clock.Advance(absl::Seconds(4));
  }
  ASSERT_OK_AND_ASSIGN(auto last, admission.Enter());
  const absl::Status full = admission.Enter().status();
  const auto hint = RetryAfter(full);
  ASSERT_TRUE(hint.has_value());
  EXPECT_GT(*hint, absl::Milliseconds(3900));
  EXPECT_LT(*hint, absl::Milliseconds(4100));
}

// What a client saw of one call.
struct Seen {
  absl::Status status;
  v1::Started started;
  std::string text;
  std::vector<int32_t> ids;
  std::vector<std::string> pieces;
  v1::Finished finished;
};

class InferenceServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(model_, ModelText::Load(testing::GoldenFolder("ccoe/backbone")));
    parts_.model = model_.get();
    parts_.routing = &routing_;
    parts_.backbones = &backbones_;
    parts_.observer = &observer_;
    parts_.clock = &clock_;
    service_ = std::make_unique<InferenceService>(parts_, &admission_, absl::Minutes(30));
    ServerOptions server;
    server.services = {{service_.get(), std::string(v1::Inference::service_full_name())}};
    ASSERT_OK_AND_ASSIGN(server_, ServerRunner::Start(std::move(server)));
    ASSERT_OK_AND_ASSIGN(auto channel, channels_.Connect(server_->addresses()[0]));
    stub_ = v1::Inference::NewStub(channel);
    request_.set_text("Hello");
    RouteTo({"first"});
  }

  void RouteTo(const std::vector<std::string>& workers) {
    v1::RouteResponse route;
    route.mutable_decision()->mutable_expert()->set_name("math");
    route.mutable_decision()->mutable_expert()->set_version(3);
    route.mutable_decision()->set_reason(v1::ROUTE_REASON_RULE);
    route.mutable_decision()->set_explanation("rule \"words\"");
    for (size_t i = 0; i < workers.size(); ++i) {
      v1::BackboneWorker* worker = i == 0 ? route.mutable_backbone() : route.add_alternatives();
      worker->set_worker_id(workers[i]);
      worker->set_address(absl::StrCat("inproc:", workers[i]));
    }
    routing_.Answer(route);
  }

  std::vector<int32_t> Ids(const std::string& text) {
    auto ids = model_->Encode(text, /*add_special=*/false);
    EXPECT_OK(ids);
    return ids.ok() ? *ids : std::vector<int32_t>();
  }

  Seen Generate() {
    Seen seen;
    auto reader = stub_->Generate(&context_, request_);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      if (response.has_started()) seen.started = response.started();
      if (response.has_finished()) seen.finished = response.finished();
      if (!response.has_delta()) continue;
      seen.text += response.delta().text();
      seen.pieces.push_back(response.delta().text());
      for (const v1::Token& token : response.delta().tokens()) seen.ids.push_back(token.id());
    }
    seen.status = FromGrpc(reader->Finish(), context_);
    return seen;
  }

  const SystemClock clock_;
  telemetry::Metrics metrics_;
  QueryMetrics observer_{
      &metrics_.gateway(), [this](const std::string& expert, const absl::Status& status) {
        outcomes_.push_back(absl::StrCat(expert, " ", absl::StatusCodeToString(status.code())));
      }};
  std::vector<std::string> outcomes_;  // read after the server has answered
  InProcessRegistry registry_;
  const ChannelFactory channels_{&registry_};
  BackboneStubs backbones_{&channels_};
  testing::FakeRoutingStub routing_;
  Admission admission_{2, &clock_};
  std::unique_ptr<ModelText> model_;
  QueryParts parts_;
  std::unique_ptr<InferenceService> service_;
  std::unique_ptr<ServerRunner> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
};

TEST_F(InferenceServiceTest, RoutesGeneratesAndStreamsText) {
  v1::BackboneGenerateRequest asked;
  FakeBackbone backbone(&registry_, "first", [&](const auto& request, auto&, auto& writer) {
    asked = request;
    for (int32_t id : Ids("the answer — 42")) FakeBackbone::Say(writer, {id});
    FakeBackbone::Done(writer, v1::FINISH_REASON_LENGTH, 9);
    return absl::OkStatus();
  });
  request_.set_tenant("acme");
  request_.set_request_id("r-7");
  request_.mutable_sampling()->set_max_tokens(9);
  const Seen seen = Generate();
  ASSERT_OK(seen.status);
  EXPECT_EQ(seen.text, "the answer — 42");
  EXPECT_EQ(seen.ids, Ids("the answer — 42"));
  EXPECT_EQ(seen.started.request_id(), "r-7");
  EXPECT_EQ(seen.started.decision().expert().name(), "math");
  EXPECT_EQ(seen.started.prompt_tokens(), asked.prompt_size());
  EXPECT_EQ(seen.finished.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(seen.finished.usage().generated_tokens(), 9);
  EXPECT_EQ(seen.finished.decision().explanation(), "rule \"words\"");
  EXPECT_EQ(asked.expert().version(), 3);
  EXPECT_EQ(asked.sampling().max_tokens(), 9);
  ASSERT_EQ(routing_.requests().size(), 1u);
  EXPECT_EQ(routing_.requests()[0].text(), "Hello");
  EXPECT_EQ(routing_.requests()[0].tenant(), "acme");
  server_.reset();
  EXPECT_THAT(outcomes_, ElementsAre("math@3 OK"));
}

TEST_F(InferenceServiceTest, AStopStringEndsTheAnswerAndTheWork) {
  absl::Notification cancelled;
  FakeBackbone backbone(&registry_, "first", [&](const auto&, auto& context, auto& writer) {
    for (int32_t id : Ids("one two STOP three")) FakeBackbone::Say(writer, {id});
    if (FakeBackbone::AwaitCancel(context)) cancelled.Notify();
    return absl::CancelledError("cancelled");
  });
  request_.add_stop("STOP");
  const Seen seen = Generate();
  ASSERT_OK(seen.status);
  EXPECT_EQ(seen.text, "one two ");
  EXPECT_EQ(seen.finished.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(seen.finished.stop(), "STOP");
  EXPECT_EQ(seen.finished.usage().generated_tokens(), static_cast<int64_t>(seen.ids.size()));
  EXPECT_TRUE(cancelled.WaitForNotificationWithTimeout(absl::Minutes(1)));
}

TEST_F(InferenceServiceTest, AnotherWorkerAnswersWhereTheFirstIsGone) {
  RouteTo({"gone", "broken", "third"});
  FakeBackbone broken(&registry_, "broken", [](const auto&, auto&, auto&) {
    return absl::UnavailableError("no link to an expert");
  });
  FakeBackbone third(&registry_, "third", [&](const auto&, auto&, auto& writer) {
    FakeBackbone::Say(writer, Ids("here"));
    FakeBackbone::Done(writer, v1::FINISH_REASON_STOP, 1);
    return absl::OkStatus();
  });
  const Seen seen = Generate();
  ASSERT_OK(seen.status);
  EXPECT_EQ(seen.text, "here");
}

TEST_F(InferenceServiceTest, AQueryThatWaitedInVainIsNotWaitedForAtEveryWorker) {
  RouteTo({"first", "second", "third"});
  std::atomic<int> asked = 0;
  const auto waits = [&](const auto&, auto&, auto&) {
    ++asked;
    return WithRetryAfter(absl::UnavailableError("no worker came"), absl::Seconds(1));
  };
  FakeBackbone first(&registry_, "first", waits), second(&registry_, "second", waits),
      third(&registry_, "third", waits);
  const Seen seen = Generate();
  EXPECT_THAT(seen.status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no worker came")));
  EXPECT_TRUE(RetryAfter(seen.status).has_value());
  EXPECT_EQ(asked, 2);
}

TEST_F(InferenceServiceTest, AWorkerThatDiesMidAnswerIsAnError) {
  RouteTo({"first", "second"});
  FakeBackbone first(&registry_, "first", [&](const auto&, auto&, auto& writer) {
    FakeBackbone::Say(writer, Ids("half"));
    return absl::UnavailableError("died");
  });
  std::atomic<int> asked = 0;
  FakeBackbone second(&registry_, "second", [&](const auto&, auto&, auto&) {
    ++asked;
    return absl::OkStatus();
  });
  const Seen seen = Generate();
  EXPECT_THAT(seen.status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("died")));
  EXPECT_EQ(seen.text, "half");
  EXPECT_EQ(asked, 0);
}

TEST_F(InferenceServiceTest, AnAnswerWithoutAnEndIsAnError) {
  FakeBackbone backbone(&registry_, "first", [&](const auto&, auto&, auto& writer) {
    FakeBackbone::Say(writer, Ids("half"));
    return absl::OkStatus();
  });
  EXPECT_THAT(Generate().status, StatusIs(absl::StatusCode::kInternal, HasSubstr("first")));
}

TEST_F(InferenceServiceTest, TheClientsDeadlineAndCancellationReachTheWorker) {
  absl::Notification began, cancelled;
  absl::Time deadline;
  FakeBackbone backbone(&registry_, "first", [&](const auto&, auto& context, auto& writer) {
    deadline = absl::FromChrono(context.deadline());
    FakeBackbone::Say(writer, Ids("some"));
    began.Notify();
    if (FakeBackbone::AwaitCancel(context)) cancelled.Notify();
    return absl::CancelledError("cancelled");
  });
  const absl::Time wanted = absl::Now() + absl::Minutes(5);
  context_.set_deadline(absl::ToChronoTime(wanted));
  auto reader = stub_->Generate(&context_, request_);
  ASSERT_TRUE(began.WaitForNotificationWithTimeout(absl::Minutes(1)));
  // It travels as the time that is left. The gateway's own would be half an hour.
  EXPECT_LT(absl::AbsDuration(deadline - wanted), absl::Minutes(2));
  context_.TryCancel();
  EXPECT_TRUE(cancelled.WaitForNotificationWithTimeout(absl::Minutes(1)));
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(InferenceServiceTest, AFullGatewayRefusesWithAHint) {
  ASSERT_OK_AND_ASSIGN(const auto first, admission_.Enter());
  ASSERT_OK_AND_ASSIGN(const auto second, admission_.Enter());
  const absl::Status status = Generate().status;
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("2 queries")));
  EXPECT_TRUE(RetryAfter(status).has_value());
}

TEST_F(InferenceServiceTest, TheRoutersErrorIsTheClients) {
  routing_.Answer(absl::NotFoundError("no expert \"maths\"; there are: math@3"));
  EXPECT_THAT(Generate().status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("math@3")));
}

TEST_F(InferenceServiceTest, TokenizesBothWays) {
  v1::TokenizeRequest request;
  request.set_text("Hello");
  request.set_no_special(true);
  v1::TokenizeResponse response;
  grpc::ClientContext there;
  ASSERT_TRUE(stub_->Tokenize(&there, request, &response).ok());
  EXPECT_THAT(Ids("Hello"),
              ::testing::ElementsAreArray(response.ids().begin(), response.ids().end()));
  v1::TokenizeRequest back;
  *back.mutable_token_ids()->mutable_ids() = response.ids();
  grpc::ClientContext here;
  ASSERT_TRUE(stub_->Tokenize(&here, back, &response).ok());
  EXPECT_EQ(response.text(), "Hello");
  back.mutable_token_ids()->set_ids(0, 1 << 30);
  grpc::ClientContext wrong;
  EXPECT_THAT(FromGrpc(stub_->Tokenize(&wrong, back, &response)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token_ids[0]")));
  grpc::ClientContext nothing;
  EXPECT_THAT(FromGrpc(stub_->Tokenize(&nothing, {}, &response)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found none")));
}

TEST_F(InferenceServiceTest, ListsExpertsAndShowsDecisionsAsTheRouterDoes) {
  v1::ListExpertsResponse experts;
  grpc::ClientContext list;
  ASSERT_TRUE(stub_->ListExperts(&list, {}, &experts).ok());
  ASSERT_EQ(experts.experts_size(), 1);
  EXPECT_EQ(experts.experts(0).expert().name(), "math");
  v1::RouteTextRequest request;
  request.set_text("how many");
  v1::Decision decision;
  grpc::ClientContext route;
  ASSERT_TRUE(stub_->Route(&route, request, &decision).ok());
  EXPECT_EQ(decision.expert().name(), "math");
  ASSERT_EQ(routing_.requests().size(), 1u);
  EXPECT_TRUE(routing_.requests()[0].decision_only());
}

}  // namespace
}  // namespace ccoe::services
