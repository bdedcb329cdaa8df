// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.grpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/cli/commands.h"
#include "services/common/server_runner.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class FakeGateway final : public v1::Control::Service {
 public:
  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest*,
                         v1::ClusterStatus* response) override {
    while (silent && !context->IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
    *response = answer;
    return error;
  }

  bool silent = false;  // answers nobody, until the caller has gone
  grpc::Status error;
  v1::ClusterStatus answer;
};

class StatusTest : public ::testing::Test {
 protected:
  void SetUp() override {
    services::ServerOptions options;
    options.services = {{&gateway_, std::string(v1::Control::service_full_name())}};
    ASSERT_OK_AND_ASSIGN(server_, services::ServerRunner::Start(std::move(options)));
    address_ = server_->addresses()[0];
  }

  testing::CommandOutput Run(std::vector<std::string> more) {
    std::vector<std::string> words = {"status", "--server", address_};
    words.insert(words.end(), more.begin(), more.end());
    return testing::RunCcoe(words, {RegisterStatus});
  }

  FakeGateway gateway_;
  std::unique_ptr<services::ServerRunner> server_;
  std::string address_;
};

TEST_F(StatusTest, ShowsWorkersAndExperts) {
  v1::WorkerStatus* worker = gateway_.answer.add_workers();
  worker->set_worker_id("expert-7");
  worker->set_ready(true);
  v1::Expert* expert = gateway_.answer.add_experts()->mutable_expert();
  expert->set_name("math");
  expert->set_version(2);
  const auto table = Run({});
  EXPECT_EQ(table.exit_code, kExitOk) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("expert-7"), HasSubstr("math@2")));
  const auto json = Run({"--json"});
  EXPECT_EQ(nlohmann::json::parse(json.out)["workers"][0]["worker_id"], "expert-7");
}

TEST_F(StatusTest, WaitsNoLongerThanTimeoutForAServerThatIsSilent) {
  gateway_.silent = true;
  const auto result = Run({"--timeout", "0.05"});
  EXPECT_EQ(result.exit_code, kExitFailed);
  EXPECT_THAT(result.err, AllOf(HasSubstr("server " + address_), HasSubstr("eadline"),
                                Not(HasSubstr("is it running"))));
}

TEST_F(StatusTest, AsksWhetherTheServerRunsOnlyWhereNobodyAnswers) {
  gateway_.error = {grpc::StatusCode::UNAVAILABLE, "the router is gone"};
  const auto reached = Run({});
  EXPECT_EQ(reached.exit_code, kExitUnavailable);
  EXPECT_THAT(reached.err, AllOf(HasSubstr("the router is gone"), Not(HasSubstr("is it running"))));
  server_.reset();
  const auto alone = Run({});
  EXPECT_EQ(alone.exit_code, kExitUnavailable);
  EXPECT_THAT(alone.err, AllOf(HasSubstr("server " + address_), HasSubstr("is it running")));
}

}  // namespace
}  // namespace ccoe::cli
