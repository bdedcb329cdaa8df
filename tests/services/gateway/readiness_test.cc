// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/readiness.h"

#include <map>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

// A cluster that the test changes while it is probed.
class ReadinessTest : public ::testing::Test {
 protected:
  void Set(const std::string& target, absl::Status answer) {
    absl::MutexLock lock(&mutex_);
    answers_[target] = std::move(answer);
  }

  ReadinessOptions Options() {
    ReadinessOptions options;
    options.list_experts = [this]() -> absl::StatusOr<std::vector<std::string>> {
      absl::MutexLock lock(&mutex_);
      if (!list_error_.ok()) return list_error_;
      return experts_;
    };
    options.probe = [this](const std::string& expert) {
      absl::MutexLock lock(&mutex_);
      ++probes_[expert];
      return answers_[expert];
    };
    options.on_change = [this](bool ready) {
      absl::MutexLock lock(&mutex_);
      ready_ = ready;
    };
    options.retry = absl::Milliseconds(1);
    options.interval = absl::Milliseconds(15);
    return options;
  }

  bool AwaitReady(bool wanted) {
    absl::MutexLock lock(&mutex_);
    const auto is = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ready_ == wanted; };
    return mutex_.AwaitWithTimeout(absl::Condition(&is), absl::Minutes(1));
  }

  bool AwaitProbes(const std::string& target, int count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return probes_[target] >= count;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Minutes(1));
  }

  absl::Mutex mutex_;
  std::vector<std::string> experts_ ABSL_GUARDED_BY(mutex_) = {"math@1", "law@1"};
  absl::Status list_error_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> answers_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> probes_ ABSL_GUARDED_BY(mutex_);
  bool ready_ ABSL_GUARDED_BY(mutex_) = false;
};

TEST_F(ReadinessTest, IsReadyOnceTheBaseAndEachExpertAnswered) {
  Set("law@1", absl::UnavailableError("no link"));
  Readiness readiness(Options());
  ASSERT_TRUE(AwaitProbes("law@1", 3));
  EXPECT_THAT(readiness.status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("\"law@1\" does not answer")));
  Set("law@1", absl::OkStatus());
  ASSERT_TRUE(AwaitReady(true));
  EXPECT_OK(readiness.status());
  absl::MutexLock lock(&mutex_);
  EXPECT_GE(probes_["base"], 1);
  EXPECT_GE(probes_["math@1"], 1);
}

TEST_F(ReadinessTest, NoticesAnExpertThatStopsAnsweringAndOneThatComesBack) {
  Readiness readiness(Options());
  ASSERT_TRUE(AwaitReady(true));
  Set("math@1", absl::InternalError("broken"));
  ASSERT_TRUE(AwaitReady(false));
  Set("math@1", absl::OkStatus());
  EXPECT_TRUE(AwaitReady(true));
}

TEST_F(ReadinessTest, IsNotReadyWithoutARouter) {
  {
    absl::MutexLock lock(&mutex_);
    list_error_ = absl::UnavailableError("no router");
  }
  Readiness readiness(Options());
  EXPECT_FALSE(readiness.status().ok());
}

TEST_F(ReadinessTest, ABusyTargetThatAnsweredBeforeStaysReady) {
  Readiness readiness(Options());
  ASSERT_TRUE(AwaitReady(true));
  Set("math@1", absl::ResourceExhaustedError("queue full"));
  int before;
  {
    absl::MutexLock lock(&mutex_);
    before = probes_["math@1"];
  }
  ASSERT_TRUE(AwaitProbes("math@1", before + 3));
  EXPECT_OK(readiness.status());
}

TEST_F(ReadinessTest, ABaseWithoutItsOwnTopIsNoFaultWhereExpertsAnswer) {
  Set("base", absl::FailedPreconditionError("left out"));
  Readiness readiness(Options());
  EXPECT_TRUE(AwaitReady(true));
}

TEST_F(ReadinessTest, ABaseWithoutItsOwnTopAndWithoutExpertsIsNotReady) {
  Set("base", absl::FailedPreconditionError("left out"));
  {
    absl::MutexLock lock(&mutex_);
    experts_.clear();
  }
  Readiness readiness(Options());
  ASSERT_TRUE(AwaitProbes("base", 2));
  EXPECT_THAT(readiness.status(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ReadinessTest, ClientsQueriesSpareProbesAndTheirFailuresBringThem) {
  ReadinessOptions options = Options();
  options.interval = absl::Minutes(30);  // between rounds: two minutes
  Readiness readiness(std::move(options));
  ASSERT_TRUE(AwaitReady(true));
  readiness.NoteAnswer("math@1");
  readiness.NoteAnswer("nobody@1");  // unknown targets leave no trace
  readiness.NoteUnavailable("nobody@1");
  absl::MutexLock lock(&mutex_);
  EXPECT_EQ(probes_["math@1"], 1);
  EXPECT_EQ(probes_.count("nobody@1"), 0u);
}

}  // namespace
}  // namespace ccoe::services
