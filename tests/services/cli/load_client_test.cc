#include "services/cli/load_client.h"

#include <memory>
#include <string>
#include <utility>

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

}  // namespace
}  // namespace ccoe::cli
