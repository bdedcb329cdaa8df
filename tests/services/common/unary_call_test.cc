#include "services/common/unary_call.h"

#include <vector>

#include "ccoe/v1/routing.pb.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::IsOk;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

CallPolicy Quick() {
  CallPolicy policy;
  policy.deadline = absl::Minutes(1);
  policy.first_backoff = absl::Milliseconds(1);
  return policy;
}

TEST(UnaryCallTest, ReturnsTheResponse) {
  const auto answer = CallUnary<v1::RouteResponse>(
      "Routing.Route", Quick(), [](grpc::ClientContext*, v1::RouteResponse* response) {
        response->mutable_backbone()->set_worker_id("b0");
        return grpc::Status::OK;
      });
  ASSERT_THAT(answer, IsOk());
  EXPECT_EQ(answer->backbone().worker_id(), "b0");
}

TEST(UnaryCallTest, RetriesWhatIsUnavailableAndForgetsTheFailedResponse) {
  int calls = 0;
  const auto answer = CallUnary<v1::RouteResponse>(
      "Routing.Route", Quick(), [&calls](grpc::ClientContext*, v1::RouteResponse* response) {
        response->add_alternatives();
        return ++calls < 3 ? grpc::Status(grpc::UNAVAILABLE, "no connection") : grpc::Status::OK;
      });
  ASSERT_THAT(answer, IsOk());
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(answer->alternatives_size(), 1);
}

TEST(UnaryCallTest, GivesUpAfterTheLastAttemptAndNamesTheMethod) {
  int calls = 0;
  const absl::Status status = CallWithRetries("Routing.Route", Quick(), [&](grpc::ClientContext*) {
    ++calls;
    return grpc::Status(grpc::UNAVAILABLE, "no connection");
  });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable,
                               AllOf(HasSubstr("Routing.Route"), HasSubstr("no connection"))));
  EXPECT_EQ(calls, 3);
}

TEST(UnaryCallTest, DoesNotRepeatWhatWillNotChange) {
  int calls = 0;
  const absl::Status status = CallWithRetries("Routing.Route", Quick(), [&](grpc::ClientContext*) {
    ++calls;
    return grpc::Status(grpc::NOT_FOUND, "expert \"tax\"");
  });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(calls, 1);
}

TEST(UnaryCallTest, DoesNotWaitPastTheDeadline) {
  CallPolicy policy = Quick();
  policy.deadline = absl::Seconds(10);
  policy.first_backoff = absl::Hours(1);
  int calls = 0;
  EXPECT_THAT(CallWithRetries("Routing.Route", policy,
                              [&](grpc::ClientContext*) {
                                ++calls;
                                return grpc::Status(grpc::UNAVAILABLE, "no connection");
                              }),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(calls, 1);
}

TEST(UnaryCallTest, TellsTheHookOfEveryAttempt) {
  std::vector<absl::StatusCode> codes;
  CallPolicy policy = Quick();
  policy.on_attempt = [&](absl::string_view method, const absl::Status& status, absl::Duration) {
    EXPECT_EQ(method, "Routing.Route");
    codes.push_back(status.code());
  };
  int calls = 0;
  EXPECT_OK(CallWithRetries("Routing.Route", policy, [&](grpc::ClientContext*) {
    return ++calls == 1 ? grpc::Status(grpc::UNAVAILABLE, "") : grpc::Status::OK;
  }));
  EXPECT_THAT(codes, ElementsAre(absl::StatusCode::kUnavailable, absl::StatusCode::kOk));
}

}  // namespace
}  // namespace ccoe::services
