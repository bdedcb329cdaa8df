#include "services/gateway/status_service.h"

#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

class FakeControlStub final : public ControlStub {
 public:
  absl::StatusOr<v1::ClusterStatus> GetStatus(const v1::GetStatusRequest& request) override {
    return answer;
  }
  absl::StatusOr<v1::ClusterStatus> answer = absl::UnavailableError("router is away");
};

TEST(StatusServiceTest, PassesOnWhatTheRouterSaysErrorsIncluded) {
  FakeControlStub router;
  StatusService service(&router);
  grpc::ServerContext context;
  const v1::GetStatusRequest request;
  v1::ClusterStatus status;
  EXPECT_EQ(service.GetStatus(&context, &request, &status).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  router.answer = v1::ClusterStatus();
  router.answer->set_epoch(7);
  ASSERT_TRUE(service.GetStatus(&context, &request, &status).ok());
  EXPECT_EQ(status.epoch(), 7);
}

}  // namespace
}  // namespace ccoe::services
