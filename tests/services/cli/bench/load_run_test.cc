// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/load_run.h"

#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/fake_inference.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::ElementsAre;

v1::GenerateRequest Question(int64_t max_tokens) {
  v1::GenerateRequest request;
  request.set_expert("math");
  request.mutable_token_ids()->add_ids(40);
  request.mutable_token_ids()->add_ids(2);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

class LoadClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = testing::Serve(&fake_);
    ClientFlags flags;
    flags.server = server_->addresses()[0];
    flags.timeout_seconds = 60;
    ASSERT_OK_AND_ASSIGN(client_, LoadClient::Create(flags));
  }

  ServedRequest Ask(const v1::GenerateRequest& request) {
    absl::Notification done;
    ServedRequest served;
    client_->Send(request, [&](ServedRequest result) {
      served = std::move(result);
      done.Notify();
    });
    done.WaitForNotification();
    return served;
  }

  testing::FakeInference fake_;
  std::unique_ptr<services::ServerRunner> server_;
  std::unique_ptr<LoadClient> client_;
};

TEST_F(LoadClientTest, TellsWhatCameAndWhen) {
  const ServedRequest served = Ask(Question(3));
  EXPECT_OK(served.status);
  EXPECT_EQ(served.expert, "math@1");
  EXPECT_EQ(served.input_tokens, 2);
  EXPECT_THAT(served.token_ids, ElementsAre(42, 43, 44));
  ASSERT_EQ(served.arrivals.size(), 3u);
  EXPECT_GT(served.arrivals[0].at, absl::ZeroDuration());
  EXPECT_LE(served.arrivals[0].at, served.arrivals[1].at);
  EXPECT_LE(served.arrivals[2].at, served.total);
  EXPECT_FALSE(served.cancelled);
}

TEST_F(LoadClientTest, KeepsTheServersRetryHint) {
  fake_.before_answer = [](int, grpc::ServerContext* context) {
    return services::ToGrpc(
        services::WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(120)),
        context);
  };
  const ServedRequest served = Ask(Question(3));
  EXPECT_THAT(served.status, testing::StatusIs(absl::StatusCode::kResourceExhausted, "full"));
  EXPECT_EQ(services::RetryAfter(served.status), absl::Milliseconds(120));
}

TEST_F(LoadClientTest, SaysThatNobodyAnswers) {
  server_.reset();
  EXPECT_THAT(Ask(Question(3)).status, testing::StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(LoadClientTest, CancelsWhatRunsAndWhatIsSentAfterwards) {
  absl::Notification arrived;
  fake_.before_answer = [&](int number, grpc::ServerContext* context) {
    if (number == 0) arrived.Notify();
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(5));
    return grpc::Status::CANCELLED;
  };
  absl::Notification done;
  client_->Send(Question(3), [&](const ServedRequest& served) {
    EXPECT_TRUE(served.cancelled);
    done.Notify();
  });
  arrived.WaitForNotification();
  client_->CancelAll();
  done.WaitForNotification();
  EXPECT_TRUE(Ask(Question(3)).cancelled);
}

TEST_F(LoadClientTest, EndsItsCallsWithItself) {
  absl::Notification arrived;
  fake_.before_answer = [&](int, grpc::ServerContext* context) {
    arrived.Notify();
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(5));
    return grpc::Status::CANCELLED;
  };
  bool done = false;
  client_->Send(Question(3), [&](const ServedRequest&) { done = true; });
  arrived.WaitForNotification();
  client_.reset();
  EXPECT_TRUE(done);
}

constexpr double kAllAtOnce = std::numeric_limits<double>::infinity();

class Counting final : public Workload {
 public:
  v1::GenerateRequest Make(int64_t index) override {
    v1::GenerateRequest request;
    request.mutable_token_ids()->add_ids(static_cast<int32_t>(index));
    request.mutable_sampling()->set_max_tokens(2);
    return request;
  }
  void OnServed(const ServedRequest& request) override {
    served.push_back(request);
    if (on_served) on_served();
  }
  void OnTick(absl::Duration, int64_t) override {}

  std::vector<ServedRequest> served;
  std::function<void()> on_served;
};

class LoadRunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = testing::Serve(&fake_);
    ClientFlags flags;
    flags.server = server_->addresses()[0];
    flags.timeout_seconds = 60;
    ASSERT_OK_AND_ASSIGN(client_, LoadClient::Create(flags));
  }

  LoadRunResult Run(const LoadRunOptions& options) {
    return LoadRun(options, client_.get(), &workload_).Run();
  }

  // Of two requests, one after the other.
  absl::Duration SecondOfTwoIsSent() {
    LoadRunOptions options;
    options.requests = 2;
    options.arrivals.rate = kAllAtOnce;
    options.max_concurrency = 1;
    Run(options);
    EXPECT_EQ(workload_.served.size(), 2u);
    return workload_.served.back().sent;
  }

  testing::FakeInference fake_;
  std::unique_ptr<services::ServerRunner> server_;
  std::unique_ptr<LoadClient> client_;
  Counting workload_;
};

TEST_F(LoadRunTest, ClosedLoopSendsEachRequestOnceAndNeverMoreThanAtOnce) {
  LoadRunOptions options;
  options.requests = 50;
  options.arrivals.rate = kAllAtOnce;
  options.max_concurrency = 3;
  const LoadRunResult result = Run(options);
  EXPECT_EQ(result.sent, 50);
  EXPECT_LE(fake_.peak(), 3);
  EXPECT_EQ(result.peak_concurrency, 3);
  std::set<int64_t> indexes;
  for (const ServedRequest& served : workload_.served) {
    EXPECT_OK(served.status);
    EXPECT_EQ(served.token_ids.front(), served.index);
    EXPECT_LE(served.sent, result.elapsed);
    indexes.insert(served.index);
  }
  EXPECT_EQ(indexes.size(), 50u);
}

TEST_F(LoadRunTest, OpenLoopSendsWhateverTheServerDoes) {
  // No request is answered before the last has come.
  absl::Notification all;
  fake_.before_answer = [&](int number, grpc::ServerContext*) {
    if (number == 19) all.Notify();
    all.WaitForNotification();
    return grpc::Status::OK;
  };
  LoadRunOptions options;
  options.requests = 20;
  options.arrivals.rate = 500;
  const LoadRunResult result = Run(options);
  EXPECT_EQ(workload_.served.size(), 20u);
  EXPECT_EQ(result.peak_concurrency, 20);
}

TEST_F(LoadRunTest, DurationEndsTheSendingAndLetsAnswersEnd) {
  LoadRunOptions options;
  options.duration = absl::Seconds(1);
  options.arrivals.rate = 200;
  const LoadRunResult result = Run(options);
  EXPECT_GT(result.sent, 0);
  EXPECT_EQ(workload_.served.size(), static_cast<size_t>(result.sent));
  for (const ServedRequest& served : workload_.served) EXPECT_OK(served.status);
}

TEST_F(LoadRunTest, ARefusedClientComesBackWhenItIsTold) {
  fake_.before_answer = [](int number, grpc::ServerContext* context) {
    if (number > 0) return grpc::Status::OK;
    return services::ToGrpc(
        services::WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(300)),
        context);
  };
  EXPECT_GE(SecondOfTwoIsSent(), absl::Milliseconds(300));
}

TEST_F(LoadRunTest, AClientThatFindsNobodyThereRestsToo) {
  fake_.before_answer = [](int number, grpc::ServerContext*) {
    return number > 0 ? grpc::Status::OK : grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
  };
  EXPECT_GE(SecondOfTwoIsSent(), absl::Milliseconds(100));
}

TEST_F(LoadRunTest, StopCancelsWhatRunsAndKeepsWhatWasDone) {
  fake_.before_answer = [](int number, grpc::ServerContext* context) {
    if (number == 0) return grpc::Status::OK;
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(5));
    return grpc::Status::CANCELLED;
  };
  LoadRunOptions options;
  options.requests = 100;
  options.arrivals.rate = kAllAtOnce;
  options.max_concurrency = 1;
  LoadRun run(options, client_.get(), &workload_);
  workload_.on_served = [&run] { run.Stop(); };
  const LoadRunResult result = run.Run();
  EXPECT_LE(result.sent, 2);
  ASSERT_EQ(workload_.served.size(), static_cast<size_t>(result.sent));
  EXPECT_OK(workload_.served[0].status);
}

TEST_F(LoadRunTest, StopEndsARunThatHangs) {
  absl::Notification arrived;
  fake_.before_answer = [&](int number, grpc::ServerContext* context) {
    if (number == 3) arrived.Notify();
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(5));
    return grpc::Status::CANCELLED;
  };
  LoadRunOptions options;
  options.requests = 4;
  options.arrivals.rate = kAllAtOnce;
  LoadRun run(options, client_.get(), &workload_);
  std::thread stopper([&] {
    arrived.WaitForNotification();
    run.Stop();
  });
  run.Run();
  stopper.join();
  ASSERT_EQ(workload_.served.size(), 4u);
  for (const ServedRequest& served : workload_.served) EXPECT_TRUE(served.cancelled);
}

}  // namespace

}  // namespace ccoe::cli
