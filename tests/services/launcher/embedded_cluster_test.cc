// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/embedded_cluster.h"

#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "gtest/gtest.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::GoldenPrompt;
using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Minutes(2);

constexpr char kRules[] = R"(
rules { name: "sums" expert: "math" keyword: "how many" }
rules { name: "tables" expert: "sql" pattern: "SELECT|TABLE" }
)";

struct Answer {
  absl::Status status;
  std::vector<int32_t> ids;
  std::string text;
  v1::Started started;
  v1::Finished finished;
};

// One cluster with the five golden experts serves all tests of the suite.
class EmbeddedClusterTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TempFolder();
    std::ofstream(*folder_ / "rules.textproto") << kRules;
    auto bundles = testing::ExtractGoldenBundles(folder_->path(), testing::GoldenExperts());
    ASSERT_OK(bundles);
    options_ = new ClusterOptions();
    options_->model.base_folder = testing::GoldenFolder("ccoe/backbone");
    options_->model.bundle_folders = *bundles;
    options_->model.rules_file = *folder_ / "rules.textproto";
    options_->gateway.gateway.listen = {"127.0.0.1:0"};
    options_->expert_workers = 2;
    team_ = new ThreadTeam(2);
    metrics_ = new telemetry::Metrics();
    auto cluster = EmbeddedCluster::Create(*options_, ExchangeKind::kLocal, team_, metrics_);
    ASSERT_OK(cluster);
    cluster_ = cluster->release();
    ASSERT_OK(cluster_->WaitReady(absl::Now() + kPatience));
  }
  static void TearDownTestSuite() {
    delete cluster_;
    delete metrics_;
    delete team_;
    delete options_;
    delete folder_;
  }

  static std::unique_ptr<v1::Inference::Stub> Connect(const EmbeddedCluster& cluster) {
    return v1::Inference::NewStub(*ChannelFactory(nullptr).Connect(cluster.address()));
  }

  static v1::GenerateRequest Greedy(const std::string& text, const std::string& expert) {
    v1::GenerateRequest request;
    request.set_text(text);
    request.set_expert(expert);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_sampling()->set_max_tokens(32);
    request.mutable_sampling()->set_ignore_eos(true);
    return request;
  }

  static Answer Ask(v1::Inference::Stub& stub, const v1::GenerateRequest& request) {
    Answer answer;
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    auto reader = stub.Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      if (response.has_started()) answer.started = response.started();
      if (response.has_finished()) answer.finished = response.finished();
      answer.text += response.delta().text();
      for (const v1::Token& token : response.delta().tokens()) answer.ids.push_back(token.id());
    }
    answer.status = FromGrpc(reader->Finish(), context);
    return answer;
  }
  static Answer Ask(const v1::GenerateRequest& request) {
    return Ask(*Connect(*cluster_), request);
  }

  // Every golden prompt's greedy continuation, by an expert or the base.
  static void ExpectGolden(const EmbeddedCluster& cluster, const std::string& expert) {
    const std::unique_ptr<v1::Inference::Stub> stub = Connect(cluster);
    const std::string checkpoint = absl::StrCat("ccoe/", expert == "base" ? "backbone" : expert);
    for (const GoldenPrompt& prompt : testing::ReadGoldenPrompts(checkpoint)) {
      const Answer answer = Ask(*stub, Greedy(prompt.text, expert));
      ASSERT_OK(answer.status);
      EXPECT_EQ(answer.ids, prompt.greedy_ids) << expert << " " << prompt.id;
      EXPECT_EQ(answer.text, prompt.greedy_text) << expert << " " << prompt.id;
      EXPECT_EQ(answer.finished.reason(), v1::FINISH_REASON_LENGTH);
      EXPECT_EQ(answer.finished.usage().prompt_tokens(), static_cast<int64_t>(prompt.ids.size()));
      EXPECT_EQ(answer.finished.usage().generated_tokens(), 32);
    }
  }

  static testing::TempFolder* folder_;
  static ClusterOptions* options_;
  static ThreadTeam* team_;
  static telemetry::Metrics* metrics_;
  static EmbeddedCluster* cluster_;
};

testing::TempFolder* EmbeddedClusterTest::folder_ = nullptr;
ClusterOptions* EmbeddedClusterTest::options_ = nullptr;
ThreadTeam* EmbeddedClusterTest::team_ = nullptr;
telemetry::Metrics* EmbeddedClusterTest::metrics_ = nullptr;
EmbeddedCluster* EmbeddedClusterTest::cluster_ = nullptr;

TEST_F(EmbeddedClusterTest, EachExpertAndTheBaseAnswerAsTheReferenceDoes) {
  ExpectGolden(*cluster_, "base");
  for (const std::string& expert : testing::GoldenExperts()) ExpectGolden(*cluster_, expert);
}

TEST_F(EmbeddedClusterTest, QueriesOfAllExpertsAtOnceAnswerAsAlone) {
  std::vector<std::thread> clients;
  for (const std::string& expert : testing::GoldenExperts()) {
    clients.emplace_back([&expert] { ExpectGolden(*cluster_, expert); });
  }
  clients.emplace_back([] { ExpectGolden(*cluster_, "base"); });
  for (std::thread& client : clients) client.join();
}

TEST_F(EmbeddedClusterTest, GrpcExchangeAndOtherWorkerCountsChangeNoToken) {
  ClusterOptions options = *options_;
  options.expert_workers = 5;
  ASSERT_OK_AND_ASSIGN(const auto cluster,
                       EmbeddedCluster::Create(options, ExchangeKind::kGrpc, team_, metrics_));
  ASSERT_OK(cluster->WaitReady(absl::Now() + kPatience));
  ExpectGolden(*cluster, "law");
  ExpectGolden(*cluster, "code");
}

TEST_F(EmbeddedClusterTest, TheClientTheRulesOrTheDefaultChoose) {
  v1::Decision decision = Ask(Greedy("how many apples?", "code@1")).finished.decision();
  EXPECT_EQ(decision.expert().name(), "code");
  EXPECT_EQ(decision.reason(), v1::ROUTE_REASON_EXPLICIT);
  decision = Ask(Greedy("How many apples?", "")).finished.decision();
  EXPECT_EQ(decision.expert().name(), "math");
  EXPECT_EQ(decision.expert().version(), 1);
  EXPECT_EQ(decision.reason(), v1::ROUTE_REASON_RULE);
  EXPECT_EQ(decision.rule(), "sums");
  decision = Ask(Greedy("How many apples?", "base")).finished.decision();
  EXPECT_FALSE(decision.has_expert());
  EXPECT_EQ(decision.reason(), v1::ROUTE_REASON_EXPLICIT);
  const GoldenPrompt golden = testing::ReadGoldenPrompts("ccoe/backbone")[0];
  const Answer unmatched = Ask(Greedy(golden.text, ""));
  EXPECT_FALSE(unmatched.finished.decision().has_expert());
  EXPECT_EQ(unmatched.started.decision().reason(), v1::ROUTE_REASON_DEFAULT);
  EXPECT_EQ(unmatched.ids, golden.greedy_ids);
}

TEST_F(EmbeddedClusterTest, BadInputIsRefusedByName) {
  EXPECT_THAT(Ask(Greedy("x", "poetry")).status,
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("math@1")));
  EXPECT_THAT(Ask(Greedy(std::string(100000, 'x'), "math")).status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prompt")));
  v1::GenerateRequest request = Greedy("x", "math");
  request.mutable_sampling()->set_top_p(std::numeric_limits<float>::infinity());
  EXPECT_THAT(Ask(request).status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("top_p")));
  // The process lives on.
  EXPECT_OK(Ask(Greedy("x", "math")).status);
}

TEST_F(EmbeddedClusterTest, ACancelledQueryLeavesNothingBehind) {
  grpc::ClientContext context;
  v1::GenerateRequest request = Greedy("Hello", "law");
  request.mutable_sampling()->set_max_tokens(100000);
  auto reader = Connect(*cluster_)->Generate(&context, request);
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_TRUE(reader->Read(&response));
  context.TryCancel();
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  const absl::Time deadline = absl::Now() + kPatience;
  while (metrics_->gateway().running_requests.Value() > 0 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(metrics_->gateway().running_requests.Value(), 0);
  EXPECT_OK(Ask(Greedy("x", "law")).status);
}

TEST_F(EmbeddedClusterTest, AQueryPastItsDeadlineEnds) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(1)));
  auto reader = Connect(*cluster_)->Generate(&context, Greedy("Hello", "law"));
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(EmbeddedClusterTest, AFullClusterRefusesWithAHint) {
  ClusterOptions options = *options_;
  options.model.bundle_folders.clear();
  options.model.rules_file.clear();
  options.gateway.gateway.max_queries = 1;
  ASSERT_OK_AND_ASSIGN(const auto cluster,
                       EmbeddedCluster::Create(options, ExchangeKind::kLocal, team_, metrics_));
  ASSERT_OK(cluster->WaitReady(absl::Now() + kPatience));
  const auto stub = Connect(*cluster);
  grpc::ClientContext context;
  v1::GenerateRequest request = Greedy("Hello", "");
  request.mutable_sampling()->set_max_tokens(100000);
  auto reader = stub->Generate(&context, request);
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));  // it was admitted
  const absl::Status status = Ask(*stub, Greedy("Hello", "")).status;
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_TRUE(RetryAfter(status).has_value());
  context.TryCancel();
}

TEST_F(EmbeddedClusterTest, WithoutTheBasesTopOnlyExpertsAnswer) {
  ClusterOptions options = *options_;
  options.backbone.worker.without_base_top = true;
  ASSERT_OK_AND_ASSIGN(const auto cluster,
                       EmbeddedCluster::Create(options, ExchangeKind::kLocal, team_, metrics_));
  ASSERT_OK(cluster->WaitReady(absl::Now() + kPatience));
  ExpectGolden(*cluster, "medical");
  EXPECT_FALSE(Ask(*Connect(*cluster), Greedy("Hello", "base")).status.ok());
}

TEST_F(EmbeddedClusterTest, WhatIsWrongAtTheStartIsNamed) {
  ClusterOptions options = *options_;
  options.model.rules_file = *folder_ / "bad.textproto";
  std::ofstream(options.model.rules_file) << "rules { name: \"x\" pattern: \"(\" }";
  EXPECT_THAT(EmbeddedCluster::Create(options, ExchangeKind::kLocal, team_, metrics_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bad.textproto:1")));
  options = *options_;
  options.model.base_folder = *folder_ / "nothing";
  EXPECT_THAT(EmbeddedCluster::Create(options, ExchangeKind::kLocal, team_, metrics_).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("nothing")));
  options = *options_;
  options.gateway.gateway.listen = {cluster_->address()};
  options.on_progress = [](const std::string& what) { ADD_FAILURE() << "loads " << what; };
  EXPECT_THAT(EmbeddedCluster::Create(options, ExchangeKind::kLocal, team_, metrics_).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("in use")));
}

}  // namespace
}  // namespace ccoe::services
