// SPDX-License-Identifier: Apache-2.0
#include "services/cli/client/moe.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "ccoe/v1/control.grpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "services/cli/commands.h"
#include "services/common/server_runner.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

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

engine::MoeSnapshot Snapshot() {
  engine::MoeSnapshot snapshot;
  snapshot.layers = {{3, 10, {5, 10, 5}, {4, 1, 3}}, {4, 0, {0, 0, 0}, {0, 0, 0}}};
  return snapshot;
}

TEST(MoeTableTest, NamesTheExtremesOfEachLayer) {
  const std::string table = MoeTable(Snapshot(), 2);
  EXPECT_THAT(table, AllOf(HasSubstr("    3          10     0.667  1 (100.0 %)      0 (50.0 %)"),
                           HasSubstr("0 + 1 (40.0 %)\n"), HasSubstr("    4           0\n")));
  EXPECT_THAT(table, AllOf(HasSubstr("layer 3, expert 1: 100.0 % of the rows"),
                           HasSubstr("layer 3, expert 0: 50.0 %"), Not(HasSubstr("expert 2"))));
}

TEST(MoeTableTest, SaysWhereNoPairIsKnown) {
  engine::MoeSnapshot snapshot = Snapshot();
  snapshot.layers[0].pairs.clear();
  EXPECT_THAT(MoeTable(snapshot, 0), AllOf(HasSubstr("-\n"), Not(HasSubstr("hottest experts"))));
}

TEST(MoeJsonTest, HoldsAllCounts) {
  const nlohmann::json json = nlohmann::json::parse(MoeJson(Snapshot()));
  ASSERT_EQ(json["layers"].size(), 2u);
  const nlohmann::json& layer = json["layers"][0];
  EXPECT_EQ(layer["layer"], 3);
  EXPECT_EQ(layer["rows"], 10);
  EXPECT_EQ(layer["tokens"], nlohmann::json({5, 10, 5}));
  EXPECT_NEAR(layer["balancedness"].get<double>(), 2.0 / 3, 1e-9);
  EXPECT_EQ(layer["co_activation"], nlohmann::json::parse("[[5,4,1],[4,10,3],[1,3,5]]"));
}

TEST(MoeJsonTest, LeavesOutPairsThatAreNotKnown) {
  engine::MoeSnapshot snapshot = Snapshot();
  snapshot.layers[0].pairs.clear();
  const nlohmann::json json = nlohmann::json::parse(MoeJson(snapshot));
  EXPECT_FALSE(json["layers"][0].contains("co_activation"));
}

size_t Count(const std::string& text, const std::string& part) {
  return std::vector<std::string>(absl::StrSplit(text, part)).size() - 1;
}

TEST(MoeHeatMapTest, ColoursEachExpertByItsMultipleOfAnEvenShare) {
  engine::MoeSnapshot snapshot;
  snapshot.layers = {{3, 100, {100, 0, 60, 40}, {}}};
  const std::string map = MoeHeatMap(snapshot);
  EXPECT_THAT(map, StartsWith("<svg xmlns="));
  EXPECT_THAT(map, HasSubstr("class=\"s6\"><title>layer 3, expert 0: 100 tokens of 100 rows, "
                             "2.00 x an even share</title>"));
  EXPECT_THAT(map, HasSubstr("class=\"s0\"><title>layer 3, expert 1: 0 tokens"));
  EXPECT_THAT(map, HasSubstr("class=\"s4\"><title>layer 3, expert 2: 60 tokens"));
  EXPECT_THAT(map, HasSubstr("class=\"s3\"><title>layer 3, expert 3: 40 tokens"));
  EXPECT_THAT(map, HasSubstr(">0.500</text>"));  // balancedness
}

TEST(MoeHeatMapTest, FollowsTheViewersGroundAndHasALegend) {
  engine::MoeSnapshot snapshot;
  snapshot.layers = {{0, 0, {0, 0}, {}}};
  EXPECT_THAT(MoeHeatMap(snapshot),
              AllOf(HasSubstr("prefers-color-scheme: dark"), HasSubstr("x even"),
                    HasSubstr(">1.5</text>"), HasSubstr("<title>Load of FFN experts</title>")));
}

TEST(MoeHeatMapTest, ABigModelFitsOnAScreen) {
  engine::MoeSnapshot snapshot;
  for (int32_t layer = 3; layer < 61; ++layer) {
    snapshot.layers.push_back({layer, 10, std::vector<uint64_t>(256, 1), {}});
  }
  const std::string map = MoeHeatMap(snapshot);
  EXPECT_EQ(Count(map, "<title>layer"), 58u * 256u);
  EXPECT_THAT(map, HasSubstr("width=\"1160\" height=\"1038\""));
  EXPECT_EQ(Count(map, "<rect"), Count(map, "/>") + Count(map, "</rect>"));
}

TEST(MoeHeatMapTest, LayersMayDifferInTheirExperts) {
  engine::MoeSnapshot snapshot;
  snapshot.layers = {{1, 1, {1}, {}}, {2, 1, {1, 0, 0}, {}}};
  EXPECT_EQ(Count(MoeHeatMap(snapshot), "<title>layer"), 4u);
}

}  // namespace

}  // namespace ccoe::cli
