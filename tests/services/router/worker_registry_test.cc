// SPDX-License-Identifier: Apache-2.0
#include "services/router/worker_registry.h"

#include <functional>
#include <string>

#include "tests/services/router/worker_reports.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::FakeClock;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class WorkerRegistryTest : public ::testing::Test {
 protected:
  FakeClock clock_;
  WorkerRegistry registry_{&clock_, {.lease = absl::Seconds(6), .max_workers = 3}};
};

TEST_F(WorkerRegistryTest, KnowsAWorkerFromItsFirstReport) {
  ASSERT_OK(registry_.Register(BackboneReport("b0")));
  ASSERT_EQ(registry_.workers().size(), 1u);
  EXPECT_EQ(registry_.workers().at("b0").report.address(), "inproc:b0");
  EXPECT_EQ(registry_.model_fingerprint(), "model-a");
}

TEST_F(WorkerRegistryTest, ForgetsAWorkerThatIsSilentForItsLeaseAndNoOther) {
  ASSERT_OK_AND_ASSIGN(const WorkerSession silent, registry_.Register(BackboneReport("b0")));
  ASSERT_OK_AND_ASSIGN(const WorkerSession heard, registry_.Register(BackboneReport("b1")));
  clock_.Advance(absl::Seconds(5));
  ASSERT_OK(registry_.Report(heard, BackboneReport("b1")));
  EXPECT_THAT(registry_.Expire(), IsEmpty());
  clock_.Advance(absl::Seconds(2));
  EXPECT_THAT(registry_.Expire(), ElementsAre(silent));
  EXPECT_TRUE(registry_.workers().contains("b1"));
  EXPECT_THAT(registry_.Report(silent, BackboneReport("b0")), StatusIs(absl::StatusCode::kAborted));
}

TEST_F(WorkerRegistryTest, AWorkerThatRestartedTakesThePlaceOfItsEarlierLife) {
  ASSERT_OK_AND_ASSIGN(const WorkerSession first, registry_.Register(BackboneReport("b0")));
  v1::WorkerReport moved = BackboneReport("b0");
  moved.set_address("127.0.0.1:8102");
  clock_.Advance(absl::Seconds(4));  // the earlier one is silent
  ASSERT_OK_AND_ASSIGN(const WorkerSession second, registry_.Register(moved));
  registry_.Remove(first);  // the earlier stream ends late
  EXPECT_EQ(registry_.workers().at("b0").session, second);
  EXPECT_EQ(registry_.workers().at("b0").report.address(), "127.0.0.1:8102");
  EXPECT_THAT(registry_.Report(first, BackboneReport("b0")), StatusIs(absl::StatusCode::kAborted));
}

TEST_F(WorkerRegistryTest, AnIdThatALivingWorkerHasElsewhereIsTaken) {
  ASSERT_OK_AND_ASSIGN(const WorkerSession first, registry_.Register(ExpertReport("e0", "math")));
  v1::WorkerReport other = ExpertReport("e0", "math");
  other.set_address("127.0.0.1:8102");
  EXPECT_THAT(registry_.Register(other),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("the id is taken"), HasSubstr("inproc:e0"),
                             HasSubstr("127.0.0.1:8102"), HasSubstr("--id"))));
  EXPECT_OK(registry_.Report(first, ExpertReport("e0", "math")));
  EXPECT_OK(registry_.Register(ExpertReport("e0", "math")));  // from where it was
}

TEST_F(WorkerRegistryTest, OtherWeightsThanASilentWorkersMayBeItsReplacement) {
  v1::WorkerReport silent = ExpertReport("e0", "math"), next = ExpertReport("e1", "math");
  silent.mutable_experts(0)->set_weights_digest("aaaa1111");
  next.mutable_experts(0)->set_weights_digest("bbbb2222");
  ASSERT_OK(registry_.Register(silent));
  clock_.Advance(absl::Seconds(4));
  EXPECT_THAT(registry_.Register(next),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("aaaa1111"), HasSubstr("bbbb2222"), HasSubstr("silent"))));
  clock_.Advance(absl::Seconds(4));
  registry_.Expire();
  EXPECT_OK(registry_.Register(next));
}

TEST_F(WorkerRegistryTest, RefusesAnotherProtocolVersionAndNamesBoth) {
  v1::WorkerReport report = BackboneReport("b0");
  report.set_protocol_version(7);
  EXPECT_THAT(registry_.Register(report),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("b0"), HasSubstr("speaks 2"), HasSubstr("worker 7"))));
}

TEST_F(WorkerRegistryTest, RefusesAnotherModelAndNamesBoth) {
  ASSERT_OK(registry_.Register(BackboneReport("b0")));
  v1::WorkerReport other = BackboneReport("b1");
  other.set_model_fingerprint("model-b");
  EXPECT_THAT(registry_.Register(other),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("model-a"), HasSubstr("model-b"))));
}

TEST_F(WorkerRegistryTest, RefusesOtherWeightsOfTheBaseAndNamesBoth) {
  v1::WorkerReport first = BackboneReport("b0"), second = BackboneReport("b1");
  first.mutable_weights()->set_source("aaaa1111");
  second.mutable_weights()->set_source("bbbb2222");
  ASSERT_OK(registry_.Register(first));
  EXPECT_THAT(registry_.Register(second),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("b0"), HasSubstr("aaaa1111"), HasSubstr("bbbb2222"))));
  second.mutable_weights()->set_source("");  // an expert worker without the base's weights
  EXPECT_OK(registry_.Register(second));
}

TEST_F(WorkerRegistryTest, RefusesASecondExpertOfTheSameNameAndVersionWithOtherWeights) {
  v1::WorkerReport first = ExpertReport("e0", "math"), second = ExpertReport("e1", "math");
  first.mutable_experts(0)->set_weights_digest("aaaa1111");
  second.mutable_experts(0)->set_weights_digest("bbbb2222");
  ASSERT_OK(registry_.Register(first));
  EXPECT_THAT(registry_.Register(second),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("math@1"), HasSubstr("e0"), HasSubstr("aaaa1111"),
                             HasSubstr("bbbb2222"))));
  second.mutable_experts(0)->set_weights_digest("aaaa1111");
  ASSERT_OK_AND_ASSIGN(const WorkerSession session, registry_.Register(second));
  second.mutable_experts(0)->set_weights_digest("cccc3333");
  EXPECT_THAT(registry_.Report(session, second),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cccc3333")));
  second.mutable_experts(0)->set_weights_digest("dddd");
  EXPECT_OK(registry_.Register(first));  // the same worker, restarted
}

TEST_F(WorkerRegistryTest, RefusesASecondExpertOfTheSameNameAndVersionForAnotherBaseOrOtherLayers) {
  ASSERT_OK(registry_.Register(ExpertReport("e0", "math")));
  v1::WorkerReport second = ExpertReport("e1", "math");
  ASSERT_OK_AND_ASSIGN(const WorkerSession session, registry_.Register(second));
  second.mutable_experts(0)->set_base_fingerprint("eeee4444");
  EXPECT_THAT(registry_.Report(session, second),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("math@1"), HasSubstr("e0"), HasSubstr("eeee4444"))));
  second = ExpertReport("e2", "math");
  second.mutable_experts(0)->mutable_info()->set_last_layer(77);
  EXPECT_THAT(registry_.Register(second),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("77")));
}

TEST_F(WorkerRegistryTest, TakesAnotherModelWhenTheLastBackboneHasGone) {
  ASSERT_OK_AND_ASSIGN(const WorkerSession session, registry_.Register(BackboneReport("b0")));
  ASSERT_OK(registry_.Register(ExpertReport("e0", "math")));
  registry_.Remove(session);
  EXPECT_EQ(registry_.model_fingerprint(), "");
  v1::WorkerReport other = BackboneReport("b1");
  other.set_model_fingerprint("model-b");
  ASSERT_OK(registry_.Register(other));
  EXPECT_EQ(registry_.model_fingerprint(), "model-b");
}

TEST_F(WorkerRegistryTest, AnExpertWorkerDoesNotSetTheModel) {
  ASSERT_OK(registry_.Register(ExpertReport("e0", "math")));
  EXPECT_EQ(registry_.model_fingerprint(), "");
}

TEST_F(WorkerRegistryTest, RefusesMalformedReportsAndSaysWhatIsWrong) {
  const auto refused = [&](const std::string& why,
                           const std::function<void(v1::WorkerReport*)>& spoil) {
    v1::WorkerReport report = ExpertReport("e0", "math");
    spoil(&report);
    EXPECT_THAT(registry_.Register(report),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  refused("worker id", [](auto* report) { report->clear_worker_id(); });
  refused("worker id", [](auto* report) { report->set_worker_id(std::string(129, 'x')); });
  refused("role", [](auto* report) { report->clear_role(); });
  refused("address", [](auto* report) { report->set_address("somewhere"); });
  refused("address", [](auto* report) { report->set_address("inproc:" + std::string(400, 'x')); });
  refused("base", [](auto* report) { Hold("base", 1, report); });
  refused("no/name", [](auto* report) { Hold("no/name", 1, report); });
  refused("version", [](auto* report) { Hold("law", 0, report); });
  refused("listed twice", [](auto* report) { Hold("math", 1, report); });
  refused("layers",
          [](auto* report) { report->mutable_experts(0)->mutable_info()->set_last_layer(6); });
  refused("bytes about it", [](auto* report) {
    report->mutable_experts(0)->mutable_info()->set_description(std::string(1 << 20, 'x'));
  });
  refused("held experts", [](auto* report) {
    for (int i = 0; i < 1100; ++i) Hold("e" + std::to_string(i), 1, report);
  });
  EXPECT_THAT(registry_.workers(), IsEmpty());
}

TEST_F(WorkerRegistryTest, AStreamKeepsItsIdRoleAndModel) {
  ASSERT_OK_AND_ASSIGN(const WorkerSession session, registry_.Register(BackboneReport("b0")));
  EXPECT_THAT(registry_.Report(session, BackboneReport("b1")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cannot change")));
  EXPECT_THAT(registry_.Report(session, ReportOf("b0", v1::WORKER_ROLE_EXPERT)),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(WorkerRegistryTest, BoundsTheNumberOfWorkers) {
  for (const char* id : {"b0", "b1", "b2"}) ASSERT_OK(registry_.Register(BackboneReport(id)));
  EXPECT_THAT(registry_.Register(BackboneReport("b3")),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(registry_.Register(BackboneReport("b2")));
}

TEST_F(WorkerRegistryTest, CountsQueriesUntilTheNextReport) {
  ASSERT_OK_AND_ASSIGN(const WorkerSession session, registry_.Register(BackboneReport("b0")));
  registry_.CountSent("b0");
  registry_.CountSent("b0");
  registry_.CountSent("gone");
  EXPECT_EQ(registry_.workers().at("b0").sent_since_report, 2);
  ASSERT_OK(registry_.Report(session, BackboneReport("b0")));
  EXPECT_EQ(registry_.workers().at("b0").sent_since_report, 0);
}

TEST(WorkerRegistryPlacementTest, APlacementsModelIsTheOnlyOneWelcome) {
  testing::FakeClock clock;
  WorkerRegistryOptions options;
  options.model_fingerprint = "model-b";
  WorkerRegistry registry(&clock, options);
  EXPECT_THAT(registry.Register(BackboneReport("b0")),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("model-b")));
  v1::WorkerReport report = BackboneReport("b0");
  report.set_model_fingerprint("model-b");
  ASSERT_OK_AND_ASSIGN(const WorkerSession session, registry.Register(report));
  registry.Remove(session);
  EXPECT_EQ(registry.model_fingerprint(), "model-b") << "also with nobody there";
}

TEST(WorkerRegistryPlacementTest, RefusesShardsThatAreNone) {
  testing::FakeClock clock;
  WorkerRegistry registry(&clock, {});
  v1::WorkerReport report = ReportOf("e0", v1::WORKER_ROLE_EXPERT);
  report.mutable_ffn_shard()->add_layers()->set_layer(-1);
  EXPECT_THAT(registry.Register(report),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer -1")));
}

}  // namespace
}  // namespace ccoe::services
