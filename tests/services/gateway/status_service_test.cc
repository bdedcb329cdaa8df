#include "services/gateway/status_service.h"

#include "gtest/gtest.h"
#include "tests/testing/fake_control_stub.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::FakeControlStub;

TEST(StatusServiceTest, PassesOnWhatTheRouterSaysErrorsIncluded) {
  FakeControlStub router(absl::UnavailableError("router is away"));
  const ChannelFactory channels(nullptr);
  BackboneStubs backbones(&channels);
  StatusService service(&router, &backbones);
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

TEST(StatusServiceTest, WhatGatesChoseComesFromTheBackboneWorkersOrSaysWhyNot) {
  FakeControlStub router(absl::UnavailableError("router is away"));
  const ChannelFactory channels(nullptr);
  BackboneStubs backbones(&channels);
  StatusService service(&router, &backbones);
  grpc::ServerContext context;
  const v1::GetMoeStatisticsRequest request;
  v1::MoeStatistics statistics;
  EXPECT_EQ(service.GetMoeStatistics(&context, &request, &statistics).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  router.answer = v1::ClusterStatus();
  EXPECT_TRUE(service.GetMoeStatistics(&context, &request, &statistics).ok());
  EXPECT_EQ(statistics.layers_size(), 0);
}

}  // namespace
}  // namespace ccoe::services
