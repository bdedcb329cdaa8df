#include "services/cli/moe.h"

#include <memory>
#include <string>
#include <utility>

#include "ccoe/v1/control.grpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "services/common/server_runner.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A gateway that counted once.
class FakeGateway final : public v1::Control::Service {
 public:
  grpc::Status GetMoeStatistics(grpc::ServerContext*, const v1::GetMoeStatisticsRequest* request,
                                v1::MoeStatistics* response) override {
    asked = *request;
    *response = answer;
    return grpc::Status::OK;
  }

  v1::MoeStatistics answer;
  v1::GetMoeStatisticsRequest asked;
};

class MoeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    v1::MoeLayerStatistics* layer = gateway_.answer.add_layers();
    layer->set_layer(3);
    layer->set_rows(10);
    for (const uint64_t tokens : {8, 4, 8}) layer->add_tokens(tokens);
    for (const uint64_t pair : {2, 6, 2}) layer->add_co_activation(pair);
    services::ServerOptions options;
    options.services = {{&gateway_, std::string(v1::Control::service_full_name())}};
    ASSERT_OK_AND_ASSIGN(server_, services::ServerRunner::Start(std::move(options)));
  }

  testing::CommandOutput Run(std::vector<std::string> more) {
    std::vector<std::string> words = {"moe", "stats", "--server", server_->addresses()[0]};
    words.insert(words.end(), more.begin(), more.end());
    return testing::RunCcoe(words, {RegisterMoe});
  }

  FakeGateway gateway_;
  std::unique_ptr<services::ServerRunner> server_;
};

TEST_F(MoeTest, PrintsATable) {
  const testing::CommandOutput output = Run({"--layer", "3", "--top", "1"});
  EXPECT_EQ(output.exit_code, kExitOk) << output.err;
  EXPECT_THAT(output.out, AllOf(HasSubstr("0 (80.0 %)"), HasSubstr("1 (40.0 %)"),
                                HasSubstr("0 + 2 (60.0 %)"), HasSubstr("layer 3, expert 0")));
  EXPECT_EQ(gateway_.asked.layer(), 3);
  EXPECT_TRUE(gateway_.asked.co_activation());
  EXPECT_FALSE(gateway_.asked.reset());
}

TEST_F(MoeTest, PrintsJsonAndResets) {
  const testing::CommandOutput output = Run({"--json", "--reset"});
  EXPECT_EQ(output.exit_code, kExitOk) << output.err;
  EXPECT_EQ(nlohmann::json::parse(output.out)["layers"][0]["co_activation"][0][2], 6);
  EXPECT_FALSE(gateway_.asked.has_layer());
  EXPECT_TRUE(gateway_.asked.reset());
}

TEST_F(MoeTest, WritesAHeatMap) {
  const std::string path = testing::TempPath("heat.svg");
  const testing::CommandOutput output = Run({"--heat-map", path});
  EXPECT_EQ(output.exit_code, kExitOk) << output.err;
  ASSERT_OK_AND_ASSIGN(const std::string map, ReadFile(path, 1 << 20));
  EXPECT_THAT(map, HasSubstr("layer 3, expert 0: 8 tokens of 10 rows"));
}

TEST_F(MoeTest, SaysThatAModelHasNoGates) {
  gateway_.answer.Clear();
  const testing::CommandOutput output = Run({});
  EXPECT_EQ(output.exit_code, kExitFailed);
  EXPECT_THAT(output.err, HasSubstr("found one without"));
}

TEST_F(MoeTest, SaysThatNobodyAnswers) {
  const std::string address = server_->addresses()[0];
  server_.reset();
  const testing::CommandOutput output =
      testing::RunCcoe({"moe", "stats", "--server", address, "--timeout", "2"}, {RegisterMoe});
  EXPECT_EQ(output.exit_code, kExitUnavailable) << output.err;
  EXPECT_THAT(output.err, HasSubstr(address));
}

}  // namespace
}  // namespace ccoe::cli
