#include "services/router/routing_service.h"

#include <string>

#include "tests/services/router/worker_reports.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::FakeClock;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kRules[] = R"(
    rules { name: "math-words" expert: "math" keyword: "how many" }
    rules { name: "tax" expert: "tax" keyword: "tax" }
    rules { name: "plain" expert: "base" tenant: "acme" })";

class RoutingServiceTest : public ::testing::Test {
 protected:
  RoutingServiceTest() {
    auto rules = routing::Rules::Parse(kRules, "r.textproto");
    EXPECT_OK(rules);
    service_ = std::make_unique<RoutingService>(&cluster_, *std::move(rules), &metrics_.router());
  }
  WorkerSession Add(const v1::WorkerReport& report) {
    bool changed = false;
    auto session = cluster_.Register(report, &changed);
    EXPECT_OK(session);
    return *session;
  }
  void Remove(WorkerSession session) {
    bool changed = false;
    cluster_.Remove(session, &changed);
    EXPECT_TRUE(changed);
  }
  grpc::Status Route(const v1::RouteRequest& request) {
    response_.Clear();
    grpc::ServerContext context;
    return service_->Route(&context, &request, &response_);
  }
  grpc::Status RouteText(const std::string& text, const std::string& expert = "",
                         const std::string& tenant = "") {
    v1::RouteRequest request;
    request.set_text(text);
    request.set_expert(expert);
    request.set_tenant(tenant);
    return Route(request);
  }
  const v1::Decision& decision() const { return response_.decision(); }

  FakeClock clock_;
  telemetry::Metrics metrics_;
  Cluster cluster_{&clock_, {}, &metrics_.router()};
  std::unique_ptr<RoutingService> service_;
  v1::RouteResponse response_;
};

TEST_F(RoutingServiceTest, TheClientsChoiceComesFirst) {
  Add(BackboneReport("b0"));
  Add(ExpertReport("e0", "math", 3));
  Add(ExpertReport("e1", "law"));
  ASSERT_TRUE(RouteText("how many", "law").ok());
  EXPECT_EQ(decision().reason(), v1::ROUTE_REASON_EXPLICIT);
  EXPECT_EQ(decision().expert().name(), "law");
  EXPECT_EQ(decision().expert().version(), 1);
  EXPECT_EQ(response_.backbone().address(), "inproc:b0");
  ASSERT_TRUE(RouteText("how many", "base").ok());
  EXPECT_FALSE(decision().has_expert());
}

TEST_F(RoutingServiceTest, ThenTheRulesAndTheNewestVersion) {
  Add(BackboneReport("b0"));
  Add(ExpertReport("e0", "math", 3));
  Add(ExpertReport("e1", "math", 2));
  ASSERT_TRUE(RouteText("How many are there?").ok());
  EXPECT_EQ(decision().reason(), v1::ROUTE_REASON_RULE);
  EXPECT_EQ(decision().rule(), "math-words");
  EXPECT_EQ(decision().expert().version(), 3);
  EXPECT_EQ(decision().explanation(), "rule \"math-words\": keyword \"how many\"");
  ASSERT_TRUE(RouteText("hello", "", "acme").ok());
  EXPECT_EQ(decision().rule(), "plain");
  EXPECT_FALSE(decision().has_expert());
}

TEST_F(RoutingServiceTest, ThenTheBase) {
  Add(BackboneReport("b0"));
  ASSERT_TRUE(RouteText("What is the capital of France?").ok());
  EXPECT_EQ(decision().reason(), v1::ROUTE_REASON_DEFAULT);
  EXPECT_FALSE(decision().has_expert());
  EXPECT_THAT(decision().explanation(), HasSubstr("no rule matched"));
}

TEST_F(RoutingServiceTest, ARuleForAnExpertThatNobodyHoldsFallsToTheBaseAndSaysSo) {
  Add(BackboneReport("b0"));
  ASSERT_TRUE(RouteText("my tax").ok());
  EXPECT_EQ(decision().reason(), v1::ROUTE_REASON_RULE);
  EXPECT_FALSE(decision().has_expert());
  EXPECT_THAT(decision().explanation(), AllOf(HasSubstr("keyword \"tax\""),
                                              HasSubstr("no ready worker holds expert \"tax\"")));
  EXPECT_THAT(metrics_.Text(), HasSubstr("ccoe_router_decisions_total{reason=\"fallback\"} 1"));
}

TEST_F(RoutingServiceTest, AnUnknownExplicitExpertIsNotFoundAndListsThoseThereAre) {
  Add(BackboneReport("b0"));
  Add(ExpertReport("e0", "math"));
  const grpc::Status status = RouteText("", "tax");
  EXPECT_EQ(status.error_code(), grpc::NOT_FOUND);
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("tax"), HasSubstr("math@1")));
  EXPECT_EQ(RouteText("", "math@2").error_code(), grpc::NOT_FOUND);
  EXPECT_THAT(metrics_.Text(), HasSubstr("ccoe_router_failed_routes_total{code=\"not_found\"} 2"));
}

TEST_F(RoutingServiceTest, AnExpertThatWasHeldUntilLatelyIsNotUnknown) {
  Add(BackboneReport("b0"));
  Remove(Add(ExpertReport("e0", "math")));
  ASSERT_TRUE(RouteText("", "math").ok());
  EXPECT_EQ(decision().expert().version(), 1);
  // A rule is advice: the base answers meanwhile.
  ASSERT_TRUE(RouteText("How many are there?").ok());
  EXPECT_FALSE(decision().has_expert());
}

TEST_F(RoutingServiceTest, RefusesMalformedRequests) {
  Add(BackboneReport("b0"));
  EXPECT_EQ(RouteText("", "no/name").error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(RouteText("", "math@zero").error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(RouteText("", std::string(200, 'x')).error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(RouteText("", "", std::string(200, 'x')).error_code(), grpc::INVALID_ARGUMENT);
}

TEST_F(RoutingServiceTest, WithoutABackboneWorkerOnlyTheDecisionCanBeHad) {
  const auto grpc_unavailable = RouteText("how many");
  EXPECT_EQ(grpc_unavailable.error_code(), grpc::UNAVAILABLE);
  v1::RouteRequest request;
  request.set_text("hello");
  request.set_decision_only(true);
  ASSERT_TRUE(Route(request).ok());
  EXPECT_EQ(decision().reason(), v1::ROUTE_REASON_DEFAULT);
  EXPECT_FALSE(response_.has_backbone());
}

TEST_F(RoutingServiceTest, GivesAFewAlternatives) {
  for (int i = 0; i < 12; ++i) Add(BackboneReport("b" + std::to_string(i)));
  ASSERT_TRUE(RouteText("hello").ok());
  EXPECT_EQ(response_.alternatives_size(), 7);
}

TEST_F(RoutingServiceTest, ListsTheExperts) {
  Add(ExpertReport("e0", "math"));
  v1::ListExpertsResponse experts;
  grpc::ServerContext context;
  ASSERT_TRUE(service_->ListExperts(&context, nullptr, &experts).ok());
  ASSERT_EQ(experts.experts_size(), 1);
  EXPECT_EQ(experts.experts(0).expert().name(), "math");
}

}  // namespace
}  // namespace ccoe::services
