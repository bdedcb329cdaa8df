// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/serve.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "services/cli/commands.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/command_line.h"
#include "tests/testing/fake_inference.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Lt;
using ::testing::SizeIs;

void ExpectUsage(const absl::Status& status, const char* text) {
  EXPECT_EQ(ExitCodeFor(status), kExitUsage) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(text));
}

TEST(BenchServeFlagsTest, DefaultsSendAThousandRequestsAtOnce) {
  const BenchServeFlags flags;
  EXPECT_OK(CheckBenchServeFlags(flags));
  const LoadRunOptions options = ToLoadRunOptions(flags);
  EXPECT_EQ(options.requests, 1000);
  EXPECT_EQ(options.duration, absl::InfiniteDuration());
}

TEST(BenchServeFlagsTest, AFlagWithoutEffectIsNamed) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"--random-input-len", "3", "--dataset-name", "custom", "--dataset-path", "f"},
           {"--raw"},
           {"--custom-output-len", "3"},
           {"--burstiness", "2"},
           {"--result-dir", "d"}}) {
    std::vector<std::string> all = {"bench", "serve"};
    all.insert(all.end(), words.begin(), words.end());
    const auto result = testing::RunCcoe(all, {RegisterBench});
    EXPECT_EQ(result.exit_code, kExitUsage);
    EXPECT_THAT(result.err, HasSubstr(words[0] + " has no effect with"));
  }
}

TEST(BenchServeFlagsTest, DurationAloneSetsNoNumber) {
  BenchServeFlags flags;
  flags.duration_seconds = 1.5;
  flags.request_rate = 10;
  EXPECT_EQ(ToLoadRunOptions(flags).requests, 0);
  EXPECT_EQ(ToLoadRunOptions(flags).duration, absl::Milliseconds(1500));
  flags.num_prompts = 7;
  EXPECT_EQ(ToLoadRunOptions(flags).requests, 7);
}

TEST(BenchServeFlagsTest, NamesFlagsThatDoNotGoTogether) {
  const auto check = [](void (*change)(BenchServeFlags&)) {
    BenchServeFlags flags;
    change(flags);
    return CheckBenchServeFlags(flags);
  };
  ExpectUsage(check([](BenchServeFlags& f) { f.request_rate = 0; }), "--request-rate");
  ExpectUsage(
      check([](BenchServeFlags& f) { f.request_rate = std::numeric_limits<double>::quiet_NaN(); }),
      "--request-rate");
  ExpectUsage(check([](BenchServeFlags& f) { f.duration_seconds = 1; }), "--max-concurrency");
  ExpectUsage(check([](BenchServeFlags& f) { f.dataset = "custom"; }), "--dataset-path");
  ExpectUsage(check([](BenchServeFlags& f) { f.dataset_path = "x"; }), "--dataset-name");
  ExpectUsage(check([](BenchServeFlags& f) { f.zipf = 1; }), "--zipf");
  ExpectUsage(check([](BenchServeFlags& f) {
                f.all_experts = true;
                f.experts = {"math"};
              }),
              "--all-experts");
  ExpectUsage(check([](BenchServeFlags& f) { f.record = f.compare = "x"; }), "--record");
}

TEST(BenchServeFlagsTest, NameTheFlagOfAListThatIsWrong) {
  BenchServeFlags flags;
  flags.goodput = {"itl:3"};
  ExpectUsage(ToServeReport(flags).status(), "--goodput: ");
  flags = {};
  flags.percentile_metrics = "tps";
  ExpectUsage(ToServeReport(flags).status(), "--percentile-metrics: ");
  flags = {};
  flags.metric_percentiles = "101";
  ExpectUsage(ToServeReport(flags).status(), "--metric-percentiles: ");
}

TEST(BenchServeFlagsTest, EachRequestHasASeedOfItsOwn) {
  const BenchServeFlags flags;
  EXPECT_EQ(ToSampling(flags, 3, 9).seed(), ToSampling(flags, 3, 9).seed());
  EXPECT_NE(ToSampling(flags, 3, 9).seed(), ToSampling(flags, 4, 9).seed());
  EXPECT_EQ(ToSampling(flags, 3, 9).max_tokens(), 9);
}

TEST(BenchServeFlagsTest, ResultsAreNamedAfterTheLoad) {
  BenchServeFlags flags;
  flags.result_dir = "/results";
  flags.max_concurrency = 8;
  ServeReport report;
  report.began = absl::FromUnixSeconds(1700000000);
  EXPECT_EQ(ResultPath(flags, report), "/results/ccoe-infqps-concurrency8-20231114-221320.json");
  flags.result_filename = "run.json";
  EXPECT_EQ(ResultPath(flags, report), "/results/run.json");
}

class BenchServeTest : public ::testing::Test {
 protected:
  void SetUp() override { server_ = testing::Serve(&fake_); }

  testing::CommandOutput Run(const std::vector<std::string>& more) {
    std::vector<std::string> words = {"bench", "serve", "--server", server_->addresses()[0]};
    if (std::find(more.begin(), more.end(), "custom") == more.end()) {
      words.insert(words.end(), {"--random-input-len", "6", "--random-output-len", "4"});
    }
    words.insert(words.end(), more.begin(), more.end());
    return testing::RunCcoe(words, {RegisterBench});
  }

  testing::FakeInference fake_;
  std::unique_ptr<services::ServerRunner> server_;
};

TEST_F(BenchServeTest, ReportsAClosedLoop) {
  const auto output = Run({"--num-prompts", "20", "--max-concurrency", "4", "--json"});
  ASSERT_EQ(output.exit_code, kExitOk) << output.err;
  const nlohmann::json json = nlohmann::json::parse(output.out);
  EXPECT_EQ(json["completed"], 20);
  EXPECT_EQ(json["total_input_tokens"], 120);
  EXPECT_EQ(json["total_output_tokens"], 80);
  EXPECT_EQ(json["max_concurrency"], 4);
  EXPECT_GT(json["p99_itl_ms"].get<double>(), 0);
  EXPECT_EQ(json["completed_by_expert"]["routed@1"], 20);
  const auto requests = fake_.requests();
  ASSERT_THAT(requests, SizeIs(20));
  for (const v1::GenerateRequest& request : requests) {
    EXPECT_THAT(request.token_ids().ids(),
                AllOf(SizeIs(6), Each(Lt(testing::FakeInference::kVocabulary))));
    EXPECT_EQ(request.sampling().temperature(), 0);
  }
}

TEST_F(BenchServeTest, PrintsATableOfAnOpenLoop) {
  const auto output = Run({"--num-prompts", "5", "--request-rate", "200", "--burstiness", "2",
                           "--goodput", "ttft:60000", "e2el:60000"});
  ASSERT_EQ(output.exit_code, kExitOk) << output.err;
  EXPECT_THAT(output.out, AllOf(HasSubstr("Successful requests:                     5"),
                                HasSubstr("Request rate configured (RPS):           200.00"),
                                HasSubstr("Request goodput"), HasSubstr("Worst gap (ms)")));
}

TEST_F(BenchServeTest, SpreadsRequestsOverTheServersExperts) {
  const auto output = Run({"--num-prompts", "40", "--all-experts", "--zipf", "2"});
  ASSERT_EQ(output.exit_code, kExitOk) << output.err;
  int code = 0;
  for (const v1::GenerateRequest& request : fake_.requests()) {
    EXPECT_TRUE(request.expert() == "code@1" || request.expert() == "math@1");
    code += request.expert() == "code@1";
  }
  EXPECT_GT(code, 24) << "4 of 5, in the mean";
  EXPECT_LT(code, 40);
}

TEST_F(BenchServeTest, SendsTheRequestsOfAFileOverAndOver) {
  const std::string path = testing::WriteTemp(
      "requests.jsonl", "{\"id\": \"a\", \"token_ids\": [5]}\n{\"id\": \"b\", \"text\": \"hi\"}\n");
  const auto output = Run({"--num-prompts", "4", "--max-concurrency", "1", "--dataset-name",
                           "custom", "--dataset-path", path, "--custom-output-len", "3"});
  ASSERT_EQ(output.exit_code, kExitOk) << output.err;
  const auto requests = fake_.requests();
  ASSERT_THAT(requests, SizeIs(4));
  EXPECT_EQ(requests[2].token_ids().ids(0), 5);
  EXPECT_EQ(requests[3].chat().messages(0).content(), "hi");
  EXPECT_EQ(requests[3].sampling().max_tokens(), 3);
}

TEST_F(BenchServeTest, CountsRefusalsAndErrorsApart) {
  fake_.before_answer = [](int number, grpc::ServerContext* context) {
    if (number == 1) {
      return services::ToGrpc(
          services::WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(70)),
          context);
    }
    return number == 2 ? grpc::Status(grpc::StatusCode::INTERNAL, "broken") : grpc::Status::OK;
  };
  const auto output = Run({"--num-prompts", "6", "--max-concurrency", "1", "--json"});
  ASSERT_EQ(output.exit_code, kExitOk) << output.err;
  const nlohmann::json json = nlohmann::json::parse(output.out);
  EXPECT_EQ(json["completed"], 4);
  EXPECT_EQ(json["failed"], 1);
  EXPECT_EQ(json["errors"][0]["code"], "INTERNAL");
  EXPECT_EQ(json["errors"][0]["example"], "broken");
  EXPECT_EQ(json["refused"]["count"], 1);
  EXPECT_EQ(json["refused"]["shortest_hint_ms"], 70.0);
}

TEST_F(BenchServeTest, FailsWhereNothingIsAnswered) {
  fake_.before_answer = [](int, grpc::ServerContext*) {
    return grpc::Status(grpc::StatusCode::INTERNAL, "broken");
  };
  const auto output = Run({"--num-prompts", "2"});
  EXPECT_EQ(output.exit_code, kExitFailed);
  EXPECT_THAT(output.out, HasSubstr("INTERNAL:"));
  EXPECT_THAT(output.err, HasSubstr("no request was answered; the first error: broken"));
}

TEST_F(BenchServeTest, SaysThatNobodyAnswers) {
  const std::string address = server_->addresses()[0];
  server_.reset();
  const auto output =
      testing::RunCcoe({"bench", "serve", "--server", address, "--timeout", "2"}, {RegisterBench});
  EXPECT_EQ(output.exit_code, kExitUnavailable) << output.err;
  EXPECT_THAT(output.err, HasSubstr(address));
}

TEST_F(BenchServeTest, ComparesTwoRunsBitForBit) {
  const std::string record = testing::TempPath("answers.jsonl");
  ASSERT_EQ(Run({"--num-prompts", "12", "--record", record}).exit_code, kExitOk);
  const auto same = Run({"--num-prompts", "12", "--max-concurrency", "2", "--compare", record});
  EXPECT_EQ(same.exit_code, kExitOk) << same.err;
  EXPECT_THAT(same.err, HasSubstr("12 equal"));

  const auto other_prompts = Run({"--num-prompts", "12", "--seed", "1", "--compare", record});
  EXPECT_EQ(other_prompts.exit_code, kExitFailed);
  EXPECT_THAT(other_prompts.err, HasSubstr("another prompt"));

  const auto other_expert = Run({"--num-prompts", "12", "--expert", "base", "--compare", record});
  EXPECT_EQ(other_expert.exit_code, kExitFailed);
  EXPECT_THAT(other_expert.err, HasSubstr("expected routed@1, found base"));

  fake_.first_token = 1;
  const auto other_tokens = Run({"--num-prompts", "12", "--compare", record});
  EXPECT_EQ(other_tokens.exit_code, kExitFailed);
  EXPECT_THAT(other_tokens.err, AllOf(HasSubstr("12 different"), HasSubstr("token 0: expected")));
}

TEST_F(BenchServeTest, AFailedRequestIsADifference) {
  const std::string record = testing::TempPath("failed.jsonl");
  ASSERT_EQ(Run({"--num-prompts", "3", "--record", record}).exit_code, kExitOk);
  fake_.before_answer = [](int number, grpc::ServerContext*) {
    return number == 4 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone") : grpc::Status::OK;
  };
  const auto output = Run({"--num-prompts", "3", "--compare", record});
  EXPECT_EQ(output.exit_code, kExitFailed);
  EXPECT_THAT(output.err, HasSubstr("no answer: UNAVAILABLE: gone"));
}

TEST_F(BenchServeTest, SavesTheReport) {
  const std::string folder = std::string(std::getenv("TEST_TMPDIR"));
  const auto output = Run({"--num-prompts", "3", "--save-result", "--result-dir", folder,
                           "--result-filename", "report.json"});
  ASSERT_EQ(output.exit_code, kExitOk) << output.err;
  ASSERT_OK_AND_ASSIGN(const std::string saved, ReadFile(folder + "/report.json", 1 << 20));
  EXPECT_EQ(nlohmann::json::parse(saved)["completed"], 3);
}

TEST_F(BenchServeTest, ASignalEndsTheRunWithTheReportSoFar) {
  fake_.before_answer = [](int number, grpc::ServerContext* context) {
    if (number < 5) return grpc::Status::OK;
    if (number == 5) kill(getpid(), SIGINT);
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(5));
    return grpc::Status::CANCELLED;
  };
  const auto output = Run({"--num-prompts", "1000", "--max-concurrency", "1", "--json"});
  EXPECT_EQ(output.exit_code, kExitOk) << output.err;
  const nlohmann::json json = nlohmann::json::parse(output.out);
  EXPECT_EQ(json["completed"], 5);
  EXPECT_EQ(json["cancelled"], 1);
  EXPECT_EQ(json["failed"], 0);
}

TEST_F(BenchServeTest, RefusesFlagsThatDoNotGoTogether) {
  EXPECT_EQ(Run({"--zipf", "1"}).exit_code, kExitUsage);
  EXPECT_EQ(Run({"--random-range-ratio", "1"}).exit_code, kExitUsage);
  EXPECT_TRUE(fake_.requests().empty());
}

}  // namespace

}  // namespace ccoe::cli
