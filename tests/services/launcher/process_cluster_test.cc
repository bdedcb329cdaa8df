// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/process_cluster.h"

#include <signal.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "gtest/gtest.h"
#include "services/common/channel_factory.h"
#include "services/common/server_runner.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr char kProgram[] = "services/cli/ccoe";

class ProcessClusterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(options_.model.bundle_folders,
                         testing::ExtractGoldenBundles(folder_.path(), {"math", "law"}));
    options_.model.base_folder = testing::GoldenFolder("ccoe/backbone");
    options_.gateway.gateway.listen = {"127.0.0.1:0"};
    options_.gateway.process.http = "127.0.0.1:0";
    options_.backbone.threads = 1;
    options_.expert.threads = 1;
    options_.expert_workers = 2;
    options_.start_timeout = absl::Minutes(3);
  }

  static std::vector<int32_t> Ask(const ProcessCluster& cluster, const std::string& text,
                                  const std::string& expert) {
    auto stub = v1::Inference::NewStub(*ChannelFactory(nullptr).Connect(cluster.address()));
    v1::GenerateRequest request;
    request.set_text(text);
    request.set_expert(expert);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_sampling()->set_max_tokens(32);
    request.mutable_sampling()->set_ignore_eos(true);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(2)));
    auto reader = stub->Generate(&context, request);
    std::vector<int32_t> ids;
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      for (const v1::Token& token : response.delta().tokens()) ids.push_back(token.id());
    }
    EXPECT_OK(FromGrpc(reader->Finish()));
    return ids;
  }

  testing::TempFolder folder_;
  ClusterOptions options_;
};

TEST_F(ProcessClusterTest, AnswersAsOneProcessDoesAndDrains) {
  ASSERT_OK_AND_ASSIGN(const auto cluster, ProcessCluster::Start(options_, kProgram));
  for (const std::string expert : {"math", "law"}) {
    for (const auto& prompt : testing::ReadGoldenPrompts(absl::StrCat("ccoe/", expert))) {
      EXPECT_EQ(Ask(*cluster, prompt.text, expert), prompt.greedy_ids) << expert << prompt.id;
    }
  }
  EXPECT_OK(cluster->Watch([] { return true; }, [](const std::string&) {}));
  EXPECT_OK(cluster->Drain());
}

TEST_F(ProcessClusterTest, AnAddressInUseIsNoticedBeforeAnythingStarts) {
  ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(ServerOptions()));
  options_.gateway.process.http = server->addresses().front();
  options_.on_progress = [](const std::string& what) { ADD_FAILURE() << what; };
  EXPECT_THAT(ProcessCluster::Start(options_, kProgram).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("in use by another process")));
}

TEST_F(ProcessClusterTest, ChildrenThatCannotStartAreReportedAndNothingIsLeft) {
  options_.model.rules_file = folder_ / "none.textproto";
  EXPECT_THAT(ProcessCluster::Start(options_, kProgram).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("router (process")));
}

}  // namespace
}  // namespace ccoe::services
