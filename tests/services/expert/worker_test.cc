#include "services/expert/worker.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/model/hf_config.h"
#include "services/common/stubs.h"
#include "services/expert/held_bundles.h"
#include "services/expert/local_peers.h"
#include "services/router/router.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

class ExpertWorkerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    environment_.team = &team_;
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
  EXPECT_EQ(worker->Load().size(), 2u);
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

}  // namespace
}  // namespace ccoe::services
