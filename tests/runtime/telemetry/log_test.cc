// SPDX-License-Identifier: Apache-2.0
#include "runtime/telemetry/log.h"

#include <glog/logging.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace ccoe::telemetry {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(LogTest, ReadsLevels) {
  for (const auto& [text, level] :
       {std::pair{"debug", LogLevel::kDebug}, std::pair{"info", LogLevel::kInfo},
        std::pair{"warning", LogLevel::kWarning}, std::pair{"error", LogLevel::kError}}) {
    ASSERT_OK_AND_ASSIGN(const LogLevel parsed, ParseLogLevel(text));
    EXPECT_EQ(parsed, level);
  }
  EXPECT_THAT(ParseLogLevel("loud"), StatusIs(absl::StatusCode::kInvalidArgument,
                                              AllOf(HasSubstr("warning"), HasSubstr("loud"))));
}

TEST(LogTest, WritesOneLineFromTheLevelOn) {
  ::testing::internal::CaptureStderr();
  InitLogging("test", LogLevel::kDebug);
  InitLogging("test", LogLevel::kInfo);
  LOG(INFO) << "generate finished" << Field("request", "r-1") << Field("tokens", 7);
  VLOG(1) << "not shown";
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(text,
              ContainsRegex("^20[0-9-]+T[0-9:]+\\.[0-9]+Z INFO log_test.cc:[0-9]+\\]? generate "
                            "finished request=r-1 tokens=7\n$"));
}

TEST(LogTest, HidesWhatIsBelowTheLevel) {
  ::testing::internal::CaptureStderr();
  InitLogging("test", LogLevel::kError);
  LOG(WARNING) << "quiet";
  LOG(ERROR) << "loud";
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, AllOf(HasSubstr("loud"), Not(HasSubstr("quiet"))));
}

TEST(LogTest, QuotesWhatCouldBreakTheLine) {
  EXPECT_EQ(Field("request", "a\nb\"c"), " request=\"a\\nb\\\"c\"");
  EXPECT_EQ(Field("request", ""), " request=\"\"");
  EXPECT_EQ(Field("expert", "math@2"), " expert=math@2");
}

TEST(LogTest, CutsLongValues) {
  EXPECT_EQ(Field("k", std::string(1000, 'x')), " k=" + std::string(256, 'x') + "...");
}

}  // namespace
}  // namespace ccoe::telemetry
