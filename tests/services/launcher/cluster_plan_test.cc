// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/cluster_plan.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <variant>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FindModelTest : public ::testing::Test {
 protected:
  void Make(const std::string& file) {
    const std::filesystem::path path(folder_ / file);
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << "{}";
  }

  testing::TempFolder folder_;
};

TEST_F(FindModelTest, ACheckpointIsItsOwnBase) {
  Make("config.json");
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout, FindModel(folder_.path(), "", ""));
  EXPECT_EQ(layout.base_folder, folder_.path());
  EXPECT_TRUE(layout.bundle_folders.empty());
  EXPECT_EQ(layout.rules_file, "");
}

TEST_F(FindModelTest, AFolderWithABaseBringsItsExpertsAndRules) {
  Make("base/config.json");
  Make("experts/sql/expert.json");
  Make("experts/law/expert.json");
  Make("experts/notes/readme.txt");
  Make("routing.textproto");
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout, FindModel(folder_.path(), "", ""));
  EXPECT_EQ(layout.base_folder, folder_ / "base");
  EXPECT_THAT(layout.bundle_folders, ElementsAre(folder_ / "experts/law", folder_ / "experts/sql"));
  EXPECT_EQ(layout.rules_file, folder_ / "routing.textproto");
}

TEST_F(FindModelTest, WhatIsGivenTakesThePlaceOfWhatIsThere) {
  Make("base/config.json");
  Make("experts/sql/expert.json");
  Make("other/math/expert.json");
  Make("routing.textproto");
  Make("mine.textproto");
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout,
                       FindModel(folder_.path(), folder_ / "other", folder_ / "mine.textproto"));
  EXPECT_THAT(layout.bundle_folders, ElementsAre(folder_ / "other/math"));
  EXPECT_EQ(layout.rules_file, folder_ / "mine.textproto");
  // A single bundle is a folder of one.
  ASSERT_OK_AND_ASSIGN(const ModelLayout one,
                       FindModel(folder_.path(), folder_ / "other/math", ""));
  EXPECT_THAT(one.bundle_folders, ElementsAre(folder_ / "other/math"));
}

TEST_F(FindModelTest, NamesWhatIsMissing) {
  EXPECT_THAT(FindModel(folder_ / "none", "", "").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(FindModel(folder_.path(), "", "").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("config.json")));
  Make("config.json");
  EXPECT_THAT(FindModel(folder_.path(), folder_ / "none", "").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(FindModel(folder_.path(), folder_.path(), "").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("found none")));
  EXPECT_THAT(FindModel(folder_.path(), "", folder_ / "no.textproto").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no.textproto")));
}

TEST(AssignBundlesTest, SpreadsBundlesInTurn) {
  EXPECT_THAT(AssignBundles({"a", "b", "c", "d", "e"}, 2),
              ElementsAre(ElementsAre("a", "c", "e"), ElementsAre("b", "d")));
  EXPECT_THAT(AssignBundles({"a", "b"}, 1), ElementsAre(ElementsAre("a", "b")));
}

TEST(AssignBundlesTest, MoreWorkersThanBundlesHoldReplicas) {
  EXPECT_THAT(AssignBundles({"a", "b"}, 5),
              ElementsAre(ElementsAre("a"), ElementsAre("b"), ElementsAre("a"), ElementsAre("b"),
                          ElementsAre("a")));
}

TEST(AssignBundlesTest, WithoutBundlesThereAreNoWorkers) {
  EXPECT_THAT(AssignBundles({}, 3), IsEmpty());
}

ClusterOptions Moe() {
  ClusterOptions options;
  options.model.base_folder = testing::GoldenFolder("mixtral-8x2");
  return options;
}

ClusterOptions Dense(std::vector<std::string> bundles) {
  ClusterOptions options;
  options.model.base_folder = testing::GoldenFolder("llama-gqa");
  options.model.bundle_folders = std::move(bundles);
  return options;
}

TEST(ExpertPlanTest, FfnExpertsAreWithTheBackboneUnlessWorkersAreAskedFor) {
  ASSERT_OK_AND_ASSIGN(const ExpertPlan plan, PlanExperts(Moe()));
  EXPECT_TRUE(plan.workers.empty());
  EXPECT_FALSE(plan.placement.has_value());
}

TEST(ExpertPlanTest, WorkersShareTheFfnExperts) {
  ClusterOptions options = Moe();
  options.expert_workers = 3;
  options.ffn_copies = 2;
  ASSERT_OK_AND_ASSIGN(const ExpertPlan plan, PlanExperts(options));
  ASSERT_EQ(plan.workers.size(), 3u);
  EXPECT_EQ(plan.workers[2].id, "expert-2");
  ASSERT_TRUE(plan.placement.has_value());
  int64_t copies = 0;
  for (const placement::WorkerPlan& worker : plan.placement->workers) copies += worker.shard.size();
  EXPECT_EQ(copies, 2 * 4 * 8);
  EXPECT_FALSE(plan.placement->model_fingerprint.empty());
}

TEST(ExpertPlanTest, LayerExpertsHaveOneWorkerUnlessMoreAreAskedFor) {
  ASSERT_OK_AND_ASSIGN(const ExpertPlan one, PlanExperts(Dense({"a", "b"})));
  ASSERT_EQ(one.workers.size(), 1u);
  EXPECT_THAT(one.workers[0].bundles, ElementsAre("a", "b"));
  ClusterOptions options = Dense({"a", "b"});
  options.expert_workers = 3;
  ASSERT_OK_AND_ASSIGN(const ExpertPlan three, PlanExperts(options));
  ASSERT_EQ(three.workers.size(), 3u);
  EXPECT_THAT(three.workers[2].bundles, ElementsAre("a"));
  ASSERT_OK_AND_ASSIGN(const ExpertPlan none, PlanExperts(Dense({})));
  EXPECT_TRUE(none.workers.empty());
}

TEST(ExpertPlanTest, BothKindsShareTheWorkers) {
  ClusterOptions options = Moe();
  options.model.bundle_folders = {"a"};
  options.expert_workers = 2;
  ASSERT_OK_AND_ASSIGN(const ExpertPlan plan, PlanExperts(options));
  ASSERT_EQ(plan.workers.size(), 2u);
  EXPECT_THAT(plan.workers[1].bundles, ElementsAre("a"));
  EXPECT_EQ(plan.placement->workers.size(), 2u);
}

TEST(ExpertPlanTest, APlacementFileNamesTheWorkers) {
  testing::TempFolder folder;
  ClusterOptions options = Moe();
  options.placement_file = folder / "placement.textproto";
  std::ofstream(options.placement_file)
      << "workers { worker_id: \"left\" shards { layers: \"0-3\" experts: \"0-3\" } }\n"
         "workers { worker_id: \"right\" shards { layers: \"0-3\" experts: \"4-7\" } }\n";
  ASSERT_OK_AND_ASSIGN(const ExpertPlan plan, PlanExperts(options));
  ASSERT_EQ(plan.workers.size(), 2u);
  EXPECT_EQ(plan.workers[0].id, "left");
  options.expert_workers = 3;
  EXPECT_THAT(PlanExperts(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("names 2 workers")));
  options.model.base_folder = testing::GoldenFolder("llama-gqa");
  EXPECT_THAT(PlanExperts(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a model with FFN experts")));
}

TEST(ExpertPlanTest, RefusesWhatCannotBe) {
  ClusterOptions options = Dense({"a"});
  options.expert_workers = 0;
  EXPECT_THAT(PlanExperts(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 1")));
  options = Moe();
  options.ffn_copies = 2;
  EXPECT_THAT(PlanExperts(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expert workers")));
  options.expert_workers = 1;
  EXPECT_THAT(PlanExperts(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected 1 to 1")));
}

TEST(ClusterPlanTest, RolesStandInTheOrderOfTheirStartAndAreAsTheirTemplatesSay) {
  ClusterOptions options = Dense({"a", "b"});
  options.model.rules_file = "rules";
  options.backbone_workers = 2;
  options.expert_workers = 2;
  options.router.router.lease = absl::Seconds(3);
  options.backbone.threads = 5;
  options.backbone.worker.engine.max_running = 7;
  options.expert.worker.host.kv_tokens = 99;
  options.gateway.gateway.longest_query = absl::Seconds(8);
  options.gateway.gateway.listen = {"there:1"};
  ASSERT_OK_AND_ASSIGN(const std::vector<RoleOptions> roles, PlanCluster(options));
  std::vector<std::string> names;
  for (const RoleOptions& role : roles) names.push_back(NameOf(role));
  EXPECT_THAT(names,
              ElementsAre("router", "backbone-0", "backbone-1", "expert-0", "expert-1", "gateway"));
  const auto& router = std::get<RouterRole>(roles[0]);
  EXPECT_EQ(router.router.lease, absl::Seconds(3));
  EXPECT_EQ(router.router.rules_file, "rules");
  EXPECT_FALSE(router.router.placement.has_value());
  const auto& backbone = std::get<BackboneRole>(roles[2]);
  EXPECT_EQ(backbone.threads, 5);
  EXPECT_EQ(backbone.worker.engine.max_running, 7);
  EXPECT_THAT(backbone.worker.bundle_folders, ElementsAre("a", "b"));
  const auto& expert = std::get<ExpertRole>(roles[4]);
  EXPECT_EQ(expert.worker.host.kv_tokens, 99);
  EXPECT_THAT(expert.worker.bundle_folders, ElementsAre("b"));
  const auto& gateway = std::get<GatewayRole>(roles[5]);
  EXPECT_EQ(gateway.gateway.longest_query, absl::Seconds(8));
  EXPECT_EQ(gateway.gateway.model_folder, options.model.base_folder);
  EXPECT_THAT(ListenOf(roles[5]), ElementsAre("there:1"));
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_THAT(ListenOf(roles[i]), ElementsAre("127.0.0.1:0"));
    EXPECT_EQ(ProcessOf(roles[i]).http, "127.0.0.1:0");
  }
}

TEST(ClusterPlanTest, TheRouterGetsThePlacement) {
  ClusterOptions options = Moe();
  options.expert_workers = 2;
  ASSERT_OK_AND_ASSIGN(const std::vector<RoleOptions> roles, PlanCluster(options));
  ASSERT_EQ(roles.size(), 5u);
  const auto& router = std::get<RouterRole>(roles[0]).router;
  ASSERT_TRUE(router.placement.has_value());
  EXPECT_EQ(router.placement->workers.size(), 2u);
  EXPECT_EQ(router.model_folder, options.model.base_folder);
}

}  // namespace
}  // namespace ccoe::services
