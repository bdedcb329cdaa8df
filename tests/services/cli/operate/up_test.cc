// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "gtest/gtest.h"
#include "httplib.h"
#include "services/cli/commands.h"
#include "services/common/channel_factory.h"
#include "services/common/status_to_grpc.h"
#include "services/launcher/child_process.h"
#include "tests/testing/command_line.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::cli {
namespace {

using services::ChildProcess;

constexpr char kProgram[] = "services/cli/ccoe";
constexpr RegisterFunction kCommands[] = {RegisterUp};

absl::Time Patience() { return absl::Now() + absl::Minutes(2); }

class UpTest : public ::testing::Test {
 protected:
  // `ccoe up` with the golden model.
  absl::StatusOr<std::unique_ptr<ChildProcess>> Up(std::vector<std::string> arguments,
                                                   const std::string& listen = "127.0.0.1:0",
                                                   const std::string& http = "127.0.0.1:0") {
    std::vector<std::string> all = {"up",
                                    "--model=" + testing::GoldenFolder("ccoe/backbone"),
                                    "--listen=" + listen,
                                    "--http=" + http,
                                    "--threads=1",
                                    absl::StrCat("--announce-fd=", services::kAnnounceFd)};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return ChildProcess::Start("ccoe up", kProgram, all);
  }

  static std::vector<int32_t> Ask(const std::string& address, const std::string& text,
                                  const std::string& expert) {
    auto stub = v1::Inference::NewStub(*services::ChannelFactory(nullptr).Connect(address));
    v1::GenerateRequest request;
    request.set_text(text);
    request.set_expert(expert);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_sampling()->set_max_tokens(32);
    request.mutable_sampling()->set_ignore_eos(true);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(Patience()));
    auto reader = stub->Generate(&context, request);
    std::vector<int32_t> ids;
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      for (const v1::Token& token : response.delta().tokens()) ids.push_back(token.id());
    }
    EXPECT_OK(services::FromGrpc(reader->Finish()));
    return ids;
  }

  testing::TempFolder folder_;
};

TEST_F(UpTest, ServesAnswersAndMetricsAndDrainsOnSigterm) {
  ASSERT_OK(testing::ExtractGoldenBundles(folder_.path(), {"math"}));
  ASSERT_OK_AND_ASSIGN(const auto up, Up({"--experts=" + folder_.path()}));
  ASSERT_OK_AND_ASSIGN(const std::string line, up->ReadAnnouncement(Patience()));
  const std::vector<std::string> addresses = absl::StrSplit(line, ' ');
  ASSERT_EQ(addresses.size(), 2u);
  const auto golden = testing::ReadGoldenPrompts("ccoe/math")[0];
  EXPECT_EQ(Ask(addresses[0], golden.text, "math"), golden.greedy_ids);
  httplib::Client http("http://" + addresses[1]);
  const auto health = http.Get("/healthz");
  ASSERT_TRUE(health);
  EXPECT_EQ(health->status, 200);
  const auto metrics = http.Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_NE(metrics->body.find("ccoe_gateway_"), std::string::npos);
  up->Signal(SIGTERM);
  ASSERT_TRUE(up->WaitUntil(Patience()));
  EXPECT_EQ(up->Poll(), "exit code 0");
}

TEST_F(UpTest, APortInUseIsAFailure) {
  ASSERT_OK_AND_ASSIGN(const auto first, Up({}));
  ASSERT_OK_AND_ASSIGN(const std::string line, first->ReadAnnouncement(Patience()));
  const std::vector<std::string> addresses = absl::StrSplit(line, ' ');
  ASSERT_OK_AND_ASSIGN(const auto second, Up({}, addresses[0]));
  ASSERT_TRUE(second->WaitUntil(Patience()));
  EXPECT_EQ(second->Poll(), "exit code 1");
  ASSERT_OK_AND_ASSIGN(const auto third, Up({}, "127.0.0.1:0", addresses[1]));
  ASSERT_TRUE(third->WaitUntil(Patience()));
  EXPECT_EQ(third->Poll(), "exit code 1");
}

TEST_F(UpTest, BadRulesAreAFailure) {
  std::ofstream(folder_ / "rules") << "rules { nonsense: 1 }";
  ASSERT_OK_AND_ASSIGN(const auto up, Up({"--rules=" + (folder_ / "rules")}));
  ASSERT_TRUE(up->WaitUntil(Patience()));
  EXPECT_EQ(up->Poll(), "exit code 1");
}

TEST_F(UpTest, WrongFlagsAndMissingModelsAreToldApart) {
  EXPECT_EQ(testing::RunCcoe({"up"}, kCommands).exit_code, kExitUsage);
  EXPECT_EQ(testing::RunCcoe({"up", "--model=x", "--expert-workers=65"}, kCommands).exit_code,
            kExitUsage);
  const auto missing = testing::RunCcoe({"up", "--model=/no/such/model"}, kCommands);
  EXPECT_EQ(missing.exit_code, kExitFailed);
  EXPECT_NE(missing.err.find("/no/such/model"), std::string::npos) << missing.err;
  EXPECT_EQ(testing::RunCcoe(
                {"up", "--model=" + testing::GoldenFolder("ccoe/backbone"), "--without-base-top"},
                kCommands)
                .exit_code,
            kExitUsage);
}

}  // namespace

}  // namespace ccoe::cli
