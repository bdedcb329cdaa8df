// SPDX-License-Identifier: Apache-2.0
#include "services/router/control_service.h"

#include <memory>
#include <string>

#include "services/common/server_runner.h"
#include "services/common/status_to_grpc.h"
#include "tests/services/router/worker_reports.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::FakeClock;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// A worker's end of a stream.
class FakeWorker {
 public:
  explicit FakeWorker(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(v1::Control::NewStub(channel)) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    stream_ = stub_->Register(&context_);
  }
  bool Send(const v1::WorkerReport& report) { return stream_->Write(report); }
  // The next directive; epoch -1 where the stream is over.
  v1::Directive Next() {
    v1::Directive directive;
    if (!stream_->Read(&directive)) directive.set_epoch(-1);
    return directive;
  }
  absl::Status Finish() { return FromGrpc(stream_->Finish(), context_); }
  void Leave() { stream_->WritesDone(); }
  void Die() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::Control::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerReport, v1::Directive>> stream_;
};

class ControlServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options;
    options.listen.clear();
    options.services = {{&service_, v1::Control::service_full_name()}};
    options.in_process_name = "router";
    options.registry = &registry_;
    options.on_drain = [this] { service_.EndStreams(); };
    ASSERT_OK_AND_ASSIGN(server_, ServerRunner::Start(std::move(options)));
    ASSERT_OK_AND_ASSIGN(channel_, registry_.Connect("router"));
  }

  FakeClock clock_;
  telemetry::Metrics metrics_;
  ClusterState cluster_{&clock_, {.lease = absl::Seconds(6)}, &metrics_.router()};
  ControlService service_{&cluster_};
  InProcessRegistry registry_;
  std::unique_ptr<ServerRunner> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(ControlServiceTest, SendsADirectiveAtRegistrationAndAfterEveryChange) {
  FakeWorker backbone(channel_);
  ASSERT_TRUE(backbone.Send(BackboneReport("b0")));
  const v1::Directive first = backbone.Next();
  EXPECT_EQ(first.epoch(), 0);
  EXPECT_EQ(first.lease_seconds(), 6.0);
  FakeWorker expert(channel_);
  ASSERT_TRUE(expert.Send(ExpertReport("e0", "math")));
  EXPECT_EQ(expert.Next().epoch(), 1);
  const v1::Directive second = backbone.Next();
  EXPECT_EQ(second.epoch(), 1);
  ASSERT_EQ(second.experts_size(), 1);
  EXPECT_EQ(second.experts(0).workers(0).address(), "inproc:e0");
  expert.Leave();
  EXPECT_OK(expert.Finish());
  const v1::Directive third = backbone.Next();
  ASSERT_EQ(third.experts_size(), 1);  // it is known, and nobody holds it
  EXPECT_EQ(third.experts(0).workers_size(), 0);
  backbone.Leave();
  EXPECT_OK(backbone.Finish());
}

TEST_F(ControlServiceTest, ForgetsAWorkerWhoseStreamBreaks) {
  FakeWorker backbone(channel_);
  ASSERT_TRUE(backbone.Send(BackboneReport("b0")));
  backbone.Next();
  {
    FakeWorker expert(channel_);
    ASSERT_TRUE(expert.Send(ExpertReport("e0", "math")));
    expert.Next();
    EXPECT_EQ(backbone.Next().experts_size(), 1);
    expert.Die();
    EXPECT_THAT(expert.Finish(), StatusIs(absl::StatusCode::kCancelled));
  }
  EXPECT_EQ(backbone.Next().experts(0).workers_size(), 0);
  backbone.Leave();
  EXPECT_OK(backbone.Finish());
}

TEST_F(ControlServiceTest, RefusesAWorkerOfAnotherVersionOrModelWithBothNames) {
  FakeWorker old(channel_);
  v1::WorkerReport report = BackboneReport("b0");
  report.set_protocol_version(9);
  ASSERT_TRUE(old.Send(report));
  EXPECT_EQ(old.Next().epoch(), -1);
  EXPECT_THAT(old.Finish(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                     AllOf(HasSubstr("router speaks 2"), HasSubstr("worker 9"))));
  FakeWorker backbone(channel_);
  ASSERT_TRUE(backbone.Send(BackboneReport("b0")));
  backbone.Next();
  FakeWorker foreign(channel_);
  report = ExpertReport("e0", "math");
  report.set_model_fingerprint("model-b");
  ASSERT_TRUE(foreign.Send(report));
  EXPECT_THAT(foreign.Finish(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         AllOf(HasSubstr("model-a"), HasSubstr("model-b"))));
}

TEST_F(ControlServiceTest, EndsTheStreamOfAWorkerThatFallsSilent) {
  FakeWorker expert(channel_);
  ASSERT_TRUE(expert.Send(ExpertReport("e0", "math")));
  expert.Next();
  clock_.Advance(absl::Seconds(7));
  service_.ExpireNow();
  EXPECT_THAT(expert.Finish(), StatusIs(absl::StatusCode::kAborted, HasSubstr("lease")));
  EXPECT_EQ(cluster_.Status().workers_size(), 0);
  EXPECT_THAT(metrics_.Text(), HasSubstr("ccoe_router_expired_leases_total 1"));
}

TEST_F(ControlServiceTest, KeepsAWorkerThatReports) {
  FakeWorker expert(channel_);
  ASSERT_TRUE(expert.Send(ExpertReport("e0", "math")));
  expert.Next();
  clock_.Advance(absl::Seconds(5));
  // A second expert makes the router answer, so that the report is known to have arrived.
  v1::WorkerReport report = ExpertReport("e0", "math");
  Hold("law", 1, &report);
  ASSERT_TRUE(expert.Send(report));
  EXPECT_EQ(expert.Next().experts_size(), 2);
  clock_.Advance(absl::Seconds(5));
  service_.ExpireNow();
  EXPECT_EQ(cluster_.Status().workers_size(), 1);
  expert.Leave();
  EXPECT_OK(expert.Finish());
}

TEST_F(ControlServiceTest, ARestartedWorkerTakesTheStreamOver) {
  FakeWorker first(channel_);
  ASSERT_TRUE(first.Send(BackboneReport("b0")));
  first.Next();
  FakeWorker second(channel_);
  ASSERT_TRUE(second.Send(BackboneReport("b0")));
  second.Next();
  ASSERT_TRUE(first.Send(BackboneReport("b0")));
  EXPECT_THAT(first.Finish(), StatusIs(absl::StatusCode::kAborted));
  EXPECT_EQ(cluster_.Status().workers_size(), 1);
}

TEST_F(ControlServiceTest, AStreamThatSaysNothingIsNoWorker) {
  FakeWorker mute(channel_);
  mute.Leave();
  EXPECT_OK(mute.Finish());
  EXPECT_EQ(cluster_.Status().workers_size(), 0);
}

TEST_F(ControlServiceTest, DrainsWithoutWaitingForItsStreams) {
  FakeWorker backbone(channel_);
  ASSERT_TRUE(backbone.Send(BackboneReport("b0")));
  backbone.Next();
  server_->Drain(absl::Minutes(10));
  EXPECT_THAT(backbone.Finish(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(ControlServiceTest, AnswersOperators) {
  FakeWorker backbone(channel_);
  ASSERT_TRUE(backbone.Send(BackboneReport("b0")));
  backbone.Next();
  grpc::ClientContext context;
  v1::ClusterStatus status;
  ASSERT_TRUE(v1::Control::NewStub(channel_)->GetStatus(&context, {}, &status).ok());
  EXPECT_EQ(status.workers(0).worker_id(), "b0");
}

}  // namespace
}  // namespace ccoe::services
