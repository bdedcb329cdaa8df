// SPDX-License-Identifier: Apache-2.0
#include "services/router/router.h"

#include <fstream>
#include <string>

#include "absl/synchronization/notification.h"
#include "ccoe/v1/placement.pb.h"
#include "services/common/stubs.h"
#include "services/common/worker_server.h"
#include "tests/services/router/worker_reports.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::FakeClock;
using ::ccoe::testing::StatusIs;
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
    auto session = cluster_.Register(report);
    EXPECT_OK(session);
    return *session;
  }
  void Remove(WorkerSession session) {
    const int64_t before = cluster_.epoch();
    cluster_.Remove(session);
    EXPECT_GT(cluster_.epoch(), before);
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
  ClusterState cluster_{&clock_, {}, &metrics_.router()};
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

constexpr absl::Duration kPatience = absl::Seconds(60);

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = ::testing::TempDir() + "/router_test_" + name;
  std::ofstream(path) << text;
  return path;
}

std::string WriteRules(const std::string& text) { return WriteFile("rules.textproto", text); }

class RouterTest : public ::testing::Test {
 protected:
  RouterTest() {
    environment_.metrics = &metrics_;
    environment_.in_process = &registry_;
    options_.serve.listen.clear();
    options_.serve.in_process_name = "router";
  }
  RegistrationOptions Reporting(const v1::WorkerReport& report) {
    RegistrationOptions options;
    options.connect = [this] { return registry_.Connect("router"); };
    options.report = [report] { return report; };
    options.first_backoff = absl::Milliseconds(1);
    return options;
  }

  telemetry::Metrics metrics_;
  InProcessRegistry registry_;
  RoleEnvironment environment_;
  RouterOptions options_;
};

TEST_F(RouterTest, RoutesToWorkersThatRegistered) {
  options_.rules_file =
      WriteRules("rules { name: \"words\" expert: \"math\" keyword: \"how many\" }");
  ASSERT_OK_AND_ASSIGN(const auto router, Router::Create(options_, environment_));
  EXPECT_EQ(router->address(), "inproc:router");
  EXPECT_THAT(router->status(), StatusIs(absl::StatusCode::kUnavailable));
  absl::Notification table_known;
  RegistrationOptions reporting = Reporting(BackboneReport("b0"));
  reporting.on_directive = [&table_known](const v1::Directive& directive) {
    if (directive.experts_size() == 1 && !table_known.HasBeenNotified()) table_known.Notify();
  };
  Registration backbone(std::move(reporting));
  ASSERT_OK(backbone.WaitRegistered(kPatience));
  Registration expert(Reporting(ExpertReport("e0", "math")));
  ASSERT_OK(expert.WaitRegistered(kPatience));
  table_known.WaitForNotification();
  EXPECT_OK(router->status());

  ASSERT_OK_AND_ASSIGN(const auto channel, registry_.Connect("router"));
  v1::RouteRequest request;
  request.set_text("How many are there?");
  ASSERT_OK_AND_ASSIGN(const auto answer, MakeRoutingStub(channel)->Route(request));
  EXPECT_EQ(answer.backbone().address(), "inproc:b0");
  EXPECT_EQ(answer.decision().expert().name(), "math");
}

TEST_F(RouterTest, WorkersFindARouterThatWasRestarted) {
  ASSERT_OK_AND_ASSIGN(auto router, Router::Create(options_, environment_));
  Registration backbone(Reporting(BackboneReport("b0")));
  ASSERT_OK(backbone.WaitRegistered(kPatience));
  router.reset();
  ASSERT_OK_AND_ASSIGN(router, Router::Create(options_, environment_));
  for (int i = 0; i < 6000 && !router->status().ok(); ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_OK(router->status());
}

TEST_F(RouterTest, DoesNotStartWithABadRulesFile) {
  options_.rules_file = WriteRules("rules {\n  name: \"words\"\n  pattern: \"(\"\n}\n");
  EXPECT_THAT(Router::Create(options_, environment_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rules.textproto:3:3")));
  options_.rules_file = "/no/such/file";
  EXPECT_THAT(Router::Create(options_, environment_), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(RouterTest, RefusesALeaseOutOfRange) {
  options_.lease = absl::Milliseconds(1);
  EXPECT_THAT(Router::Create(options_, environment_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("lease")));
}

constexpr char kPlacement[] = R"(workers {
  worker_id: "e0"
  shards { layers: "0-3" experts: "0-5" }
}
workers {
  worker_id: "e1"
  shards { layers: "0-3" experts: "6-7" }
}
)";

TEST_F(RouterTest, AssignsWhatItsPlacementSays) {
  options_.placement_file = WriteFile("placement.textproto", kPlacement);
  options_.model_folder = testing::GoldenFolder("mixtral-8x2");
  ASSERT_OK_AND_ASSIGN(const auto router, Router::Create(options_, environment_));
  ASSERT_OK_AND_ASSIGN(const auto channel, registry_.Connect("router"));
  ASSERT_OK_AND_ASSIGN(const auto plan, MakeControlStub(channel)->GetPlacement({}));
  EXPECT_EQ(plan.workers_size(), 2);
  // A worker learns its part with its first directive; others hear of it once it reports that part.
  absl::Notification place_known;
  RegistrationOptions backbone = Reporting(BackboneReport("b0"));
  backbone.on_directive = [&place_known](const v1::Directive& directive) {
    if (directive.ffn_places_size() == 1 && !place_known.HasBeenNotified()) place_known.Notify();
  };
  Registration listening(std::move(backbone));
  absl::Mutex mutex;
  v1::FfnShard held;
  RegistrationOptions expert;
  expert.connect = [this] { return registry_.Connect("router"); };
  expert.report = [&] {
    v1::WorkerReport report = ReportOf("e1", v1::WORKER_ROLE_EXPERT);
    absl::MutexLock lock(&mutex);
    *report.mutable_ffn_shard() = held;
    return report;
  };
  expert.on_directive = [&](const v1::Directive& directive) {
    absl::MutexLock lock(&mutex);
    held = directive.ffn_assignment();
  };
  expert.report_after_directive = true;
  Registration worker(std::move(expert));
  ASSERT_OK(worker.WaitRegistered(kPatience));
  {
    absl::MutexLock lock(&mutex);
    ASSERT_EQ(held.layers_size(), 4);
    EXPECT_EQ(held.layers(0).experts(0), 6);
  }
  EXPECT_TRUE(place_known.WaitForNotificationWithTimeout(kPatience));
}

TEST_F(RouterTest, RefusesAPlacementThatDoesNotSuitTheModel) {
  options_.placement_file =
      WriteFile("uneven.textproto",
                "workers { worker_id: \"e0\" shards { layers: \"0-4\" experts: \"0-6\" } }");
  ASSERT_OK(Router::Create(options_, environment_)) << "without the model nothing can be said";
  options_.model_folder = testing::GoldenFolder("mixtral-8x2");
  EXPECT_THAT(Router::Create(options_, environment_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("uneven.textproto"), HasSubstr("layer 4"),
                             HasSubstr("placed nowhere: layers 0-3: 7"))));
  options_.placement_file = WriteFile("broken.textproto", "workers {\n  shards { } }");
  EXPECT_THAT(Router::Create(options_, environment_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("broken.textproto:1:1")));
  options_.placement_file =
      WriteFile("foreign.textproto", std::string("model_fingerprint: \"abc\"\n") + kPlacement);
  EXPECT_THAT(Router::Create(options_, environment_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model_fingerprint")));
}

}  // namespace
}  // namespace ccoe::services
