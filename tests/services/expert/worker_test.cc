// SPDX-License-Identifier: Apache-2.0
#include "services/expert/worker.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/model/families/hf_config.h"
#include "services/common/compute.h"
#include "services/common/row_carriers.h"
#include "services/common/stubs.h"
#include "services/expert/load_experts.h"
#include "services/router/router.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(HostMetricsTest, ShowsTheSumOverTheExpertsOfAWorker) {
  telemetry::Metrics metrics;
  telemetry::ExpertMetrics& shown = metrics.expert("e0");
  experts::HostLoad load;
  load.experts.resize(2);
  experts::ExpertLoad &math = load.experts[0], &law = load.experts[1];
  math.weight_bytes = 100;
  math.kv_tokens_used = 3;
  math.kv_tokens_total = 10;
  math.swaps = 5;
  math.rows = 50;
  math.batches = 4;
  law.weight_bytes = 200;
  law.kv_tokens_total = 10;
  law.swaps = 1;
  load.ffn.weight_bytes = 1000;
  load.ffn.swaps = 10;
  load.ffn.rows = 100;
  load.ffn.batches = 2;
  load.waiting_rows = 7;
  SampleHost(load, shown);
  math.swaps = 6;
  SampleHost(load, shown);
  EXPECT_EQ(shown.held_experts.Value(), 2);
  EXPECT_EQ(shown.weight_bytes.Value(), 1300);
  EXPECT_EQ(shown.kv_used_tokens.Value(), 3);
  EXPECT_EQ(shown.kv_total_tokens.Value(), 20);
  EXPECT_EQ(shown.waiting_rows.Value(), 7);
  EXPECT_EQ(shown.swaps.Value(), 17);
  EXPECT_EQ(shown.rows.Value(), 150);
  EXPECT_EQ(shown.batches.Value(), 6);
}

class ExpertWorkerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    environment_.compute = &compute_;
    environment_.channels = &channels_;
    environment_.metrics = &metrics_;
    environment_.in_process = &registry_;
    environment_.local_peers = &peers_;
    ASSERT_OK_AND_ASSIGN(options_.bundle_folders,
                         testing::ExtractGoldenBundles(folder_.path(), {"math", "law"}));
    options_.base_folder = testing::GoldenFolder("ccoe/backbone");
    options_.router = "inproc:router";
    options_.serve.listen.clear();
    options_.serve.in_process_name = "expert-0";
    RouterOptions router;
    router.serve.listen.clear();
    router.serve.in_process_name = "router";
    ASSERT_OK_AND_ASSIGN(router_, Router::Create(router, environment_));
  }

  v1::ListExpertsResponse Listed() {
    auto listed = MakeRoutingStub(*registry_.Connect("router"))->ListExperts({});
    EXPECT_OK(listed);
    return listed.ok() ? *listed : v1::ListExpertsResponse();
  }

  // A base folder with config.json alone.
  std::string WithoutWeights() {
    const std::string base = folder_ / "base";
    std::filesystem::create_directories(base);
    std::filesystem::copy_file(testing::GoldenFolder("ccoe/backbone") + "/config.json",
                               base + "/config.json");
    return base;
  }

  ThreadTeam team_{1};
  const Compute compute_{&team_};
  InProcessRegistry registry_;
  const ChannelFactory channels_{&registry_};
  LocalPeers peers_;
  telemetry::Metrics metrics_;
  RoleEnvironment environment_;
  testing::TempFolder folder_;
  ExpertWorkerOptions options_;
  std::unique_ptr<Router> router_;
};

TEST_F(ExpertWorkerTest, TellsTheRouterWhatItHolds) {
  ASSERT_OK_AND_ASSIGN(const auto worker, ExpertWorker::Create(options_, environment_));
  EXPECT_OK(worker->status());
  EXPECT_EQ(worker->address(), "inproc:expert-0");
  EXPECT_NE(peers_.Find("inproc:expert-0"), nullptr);
  const v1::ListExpertsResponse experts = Listed();
  ASSERT_EQ(experts.experts_size(), 2);
  EXPECT_EQ(experts.experts(0).expert().name(), "law");
  EXPECT_EQ(experts.experts(1).expert().name(), "math");
  EXPECT_EQ(experts.experts(1).expert().version(), 1);
  EXPECT_EQ(experts.experts(1).first_layer(), 4);
  EXPECT_EQ(experts.experts(1).last_layer(), 8);
  EXPECT_EQ(experts.experts(1).replicas(), 1);
  EXPECT_GT(experts.experts(1).weight_bytes(), 0);
  EXPECT_NE(metrics_.Text().find("expert-0"), std::string::npos);
  worker->Drain(absl::Seconds(1));
  EXPECT_EQ(peers_.Find("inproc:expert-0"), nullptr);
}

TEST_F(ExpertWorkerTest, NeedsNoWeightsOfTheBase) {
  options_.base_folder = WithoutWeights();
  ASSERT_OK_AND_ASSIGN(const auto worker, ExpertWorker::Create(options_, environment_));
  EXPECT_EQ(worker->Load().experts.size(), 2u);
}

TEST_F(ExpertWorkerTest, RefusesABundleOfAnotherBaseAndNamesIt) {
  options_.base_folder = testing::GoldenFolder("llama-gqa");
  EXPECT_THAT(
      ExpertWorker::Create(options_, environment_).status(),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(options_.bundle_folders[0])));
}

TEST_F(ExpertWorkerTest, RefusesABundleWithAWrongDigest) {
  const std::string weights = options_.bundle_folders[1] + "/model.safetensors";
  std::fstream file(weights, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('\x55');
  file.close();
  EXPECT_THAT(ExpertWorker::Create(options_, environment_).status(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(options_.bundle_folders[1])));
}

TEST_F(ExpertWorkerTest, NeedsABundle) {
  options_.bundle_folders.clear();
  EXPECT_THAT(ExpertWorker::Create(options_, environment_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least one")));
}

// A worker of a model with FFN experts, under a router with a placement.
class FfnWorkerTest : public ExpertWorkerTest {
 protected:
  static constexpr char kPlacement[] =
      "workers { worker_id: \"expert-0\" shards { layers: \"0-3\" experts: \"0-2\" } }"
      "workers { worker_id: \"expert-1\" shards { layers: \"0-3\" experts: \"3-7\" } }";

  void SetUp() override {
    ExpertWorkerTest::SetUp();
    options_.base_folder = testing::GoldenFolder("mixtral-8x2");
    options_.bundle_folders.clear();
  }
  void StartRouter(const std::string& placement) {
    router_.reset();
    RouterOptions router;
    router.serve.listen.clear();
    router.serve.in_process_name = "router";
    if (!placement.empty()) {
      router.placement_file = folder_ / "placement.textproto";
      std::ofstream(router.placement_file) << placement;
    }
    ASSERT_OK_AND_ASSIGN(router_, Router::Create(router, environment_));
  }
  // What the router knows of the worker once it says that it is ready.
  v1::WorkerStatus Known() {
    v1::ClusterStatus status;
    for (int i = 0; i < 6000; ++i) {
      status = *MakeControlStub(*registry_.Connect("router"))->GetStatus({});
      if (status.workers_size() == 1 && status.workers(0).ready()) return status.workers(0);
      absl::SleepFor(absl::Milliseconds(10));
    }
    ADD_FAILURE() << status.ShortDebugString();
    return {};
  }
};

TEST_F(FfnWorkerTest, LoadsWhatTheRouterAssignsAndReportsIt) {
  StartRouter(kPlacement);
  ASSERT_OK_AND_ASSIGN(const auto worker, ExpertWorker::Create(options_, environment_));
  EXPECT_OK(worker->status());
  EXPECT_EQ(worker->Load().ffn.shard.ToString(), "layers 0-3: 0-2");
  EXPECT_EQ(worker->Load().ffn.weight_bytes, 12 * 3 * 64 * 80 * 2);
  EXPECT_TRUE(worker->Load().experts.empty());
  const v1::WorkerStatus known = Known();
  EXPECT_EQ(known.ffn_shard().layers_size(), 4);
  EXPECT_EQ(known.ffn_shard().layers(0).experts_size(), 3);
  EXPECT_EQ(known.ffn_bytes(), worker->Load().ffn.weight_bytes);
}

TEST_F(FfnWorkerTest, WithoutAnAssignmentItHoldsNothing) {
  StartRouter("");
  ASSERT_OK_AND_ASSIGN(const auto worker, ExpertWorker::Create(options_, environment_));
  EXPECT_TRUE(worker->Load().ffn.shard.empty());
  EXPECT_EQ(Known().ffn_shard().layers_size(), 0);
}

TEST_F(FfnWorkerTest, FailsWhereAnAssignedTensorIsMissing) {
  StartRouter("workers { worker_id: \"expert-0\" shards { layers: \"0-3\" experts: \"0-8\" } }");
  EXPECT_THAT(ExpertWorker::Create(options_, environment_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expert-0: the FFN experts assigned to it")));
}

}  // namespace
}  // namespace ccoe::services
