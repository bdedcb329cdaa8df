// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/query.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
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

// Remembers the end alone.
class EndObserver final : public QueryObserver {
 public:
  void OnRefused(const absl::Status&) override {}
  void OnBegin() override { ++begun; }
  void OnFirstToken(absl::Duration) override { ++first_tokens; }
  void OnNextToken(absl::Duration) override { ++next_tokens; }
  void OnEnd(const End& end) override { ends.push_back(end); }
  int begun = 0, first_tokens = 0, next_tokens = 0;
  std::vector<End> ends;
};

// What the network adds stands in inference_service_test.cc.
class QueryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(model_, ModelText::Load(testing::GoldenFolder("ccoe/backbone")));
    v1::RouteResponse route;
    route.mutable_decision()->set_reason(v1::ROUTE_REASON_DEFAULT);
    route.mutable_backbone()->set_address("inproc:b");
    routing_.Answer(route);
    request_.set_text("Hello");
  }

  // Runs the query; its caller is gone after `patience` messages.
  absl::Status Run(int patience) {
    QueryParts parts;
    parts.model = model_.get();
    parts.routing = &routing_;
    parts.backbones = &stubs_;
    parts.observer = &observer_;
    parts.clock = &clock_;
    QueryCaller caller;
    caller.new_context = [] { return std::make_unique<grpc::ClientContext>(); };
    caller.send = [this, patience](const v1::GenerateResponse& response) {
      messages_.push_back(response);
      return static_cast<int>(messages_.size()) < patience;
    };
    return Query(parts, std::move(caller)).Run(request_);
  }

  InProcessRegistry registry_;
  const ChannelFactory channels_{&registry_};
  BackboneStubs stubs_{&channels_};
  testing::FakeRoutingStub routing_;
  testing::FakeClock clock_;
  EndObserver observer_;
  std::unique_ptr<ModelText> model_;
  v1::GenerateRequest request_;
  std::vector<v1::GenerateResponse> messages_;
};

TEST_F(QueryTest, MessagesComeInOrderAndTheEndIsReported) {
  FakeBackbone backbone(&registry_, "b", [](const auto&, auto&, auto& writer) {
    FakeBackbone::Say(writer, {70, 71});
    FakeBackbone::Say(writer, {72});
    FakeBackbone::Done(writer, v1::FINISH_REASON_LENGTH, 3);
    return absl::OkStatus();
  });
  ASSERT_OK(Run(100));
  ASSERT_GE(messages_.size(), 4u);
  EXPECT_TRUE(messages_.front().has_started());
  EXPECT_EQ(messages_[1].delta().tokens_size(), 2);
  EXPECT_EQ(messages_[2].delta().tokens_size(), 1);
  EXPECT_TRUE(messages_.back().has_finished());
  EXPECT_EQ(observer_.begun, 1);
  EXPECT_EQ(observer_.first_tokens, 1);
  EXPECT_EQ(observer_.next_tokens, 2);
  ASSERT_EQ(observer_.ends.size(), 1u);
  EXPECT_TRUE(observer_.ends[0].routed);
  EXPECT_EQ(observer_.ends[0].usage.generated_tokens(), 3);
}

TEST_F(QueryTest, TheEndSaysWhichControlOfGatesWasApplied) {
  request_.mutable_moe()->set_active_experts(2);
  FakeBackbone backbone(&registry_, "b", [](const auto& request, auto&, auto& writer) {
    EXPECT_EQ(request.moe().active_experts(), 2);
    FakeBackbone::Say(writer, {70});
    v1::BackboneGenerateResponse end;
    end.mutable_done()->set_reason(v1::FINISH_REASON_LENGTH);
    end.mutable_done()->mutable_moe()->set_active_experts(2);
    writer.Write(end);
    return absl::OkStatus();
  });
  ASSERT_OK(Run(100));
  EXPECT_EQ(messages_.back().finished().moe().active_experts(), 2);
}

TEST_F(QueryTest, TheEndSaysSoToWhereAStopStringCutTheAnswerOff) {
  request_.mutable_moe()->set_active_experts(2);
  request_.add_stop(model_->tokenizer().Decode({70}, true).value());
  FakeBackbone backbone(&registry_, "b", [](const auto&, auto& context, auto& writer) {
    FakeBackbone::Say(writer, {70});
    EXPECT_TRUE(FakeBackbone::AwaitCancel(context));
    return absl::CancelledError("cancelled");
  });
  ASSERT_OK(Run(100));
  EXPECT_EQ(messages_.back().finished().reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(messages_.back().finished().moe().active_experts(), 2);
}

TEST_F(QueryTest, ACallerThatLeavesEndsTheWork) {
  FakeBackbone backbone(&registry_, "b", [](const auto&, auto& context, auto& writer) {
    FakeBackbone::Say(writer, {70});
    EXPECT_TRUE(FakeBackbone::AwaitCancel(context));
    return absl::CancelledError("cancelled");
  });
  EXPECT_THAT(Run(2), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(messages_.size(), 2u);
  ASSERT_EQ(observer_.ends.size(), 1u);
  EXPECT_THAT(observer_.ends[0].status, StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(QueryTest, ABadRequestIsNotRouted) {
  request_.set_expert("!");
  EXPECT_THAT(Run(100), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_TRUE(routing_.requests().empty());
  ASSERT_EQ(observer_.ends.size(), 1u);
  EXPECT_FALSE(observer_.ends[0].routed);
}

TEST(QueryMetricsTest, CountsQueriesAndTellsTheirOutcome) {
  telemetry::Metrics metrics;
  std::vector<std::string> outcomes;
  QueryMetrics observer(&metrics.gateway(), [&](const std::string& expert, const absl::Status& s) {
    outcomes.push_back(absl::StrCat(expert, " ", absl::StatusCodeToString(s.code())));
  });
  observer.OnRefused(absl::ResourceExhaustedError("full"));
  observer.OnBegin();
  EXPECT_EQ(metrics.gateway().running_requests.Value(), 1);
  observer.OnFirstToken(absl::Milliseconds(2));
  observer.OnNextToken(absl::Milliseconds(1));
  QueryObserver::End end;
  end.routed = true;
  end.decision.mutable_expert()->set_name("math");
  end.decision.mutable_expert()->set_version(2);
  end.usage.set_prompt_tokens(5);
  end.usage.set_generated_tokens(7);
  observer.OnEnd(end);
  observer.OnBegin();
  end = {};
  end.status = absl::InvalidArgumentError("bad");
  observer.OnEnd(end);  // not routed: no outcome of an expert's
  observer.OnBegin();
  end.routed = true;
  observer.OnEnd(end);
  EXPECT_EQ(metrics.gateway().running_requests.Value(), 0);
  EXPECT_EQ(metrics.gateway().prompt_tokens.Value(), 5);
  EXPECT_EQ(metrics.gateway().generated_tokens.Value(), 7);
  EXPECT_THAT(outcomes, ElementsAre("math@2 OK", "base INVALID_ARGUMENT"));
  EXPECT_NE(metrics.Text().find("\"resource_exhausted\""), std::string::npos);
}

}  // namespace
}  // namespace ccoe::services
