#include "tests/runtime/exchange/link_conformance.h"

#include <cmath>
#include <set>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "runtime/exchange/row_codec.h"
#include "runtime/exchange/row_memory.h"
#include "tests/testing/device_rows.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {

using ::ccoe::testing::FakeSwapHandler;
using ::ccoe::testing::StatusIs;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void LinkConformanceTest::Start(const LinkSetup& setup) {
  setup_ = setup;
  handler_ = std::make_unique<FakeSwapHandler>(
      setup.hidden_size, GetParam().handler_on_device ? GetParam().device : nullptr);
  worker_ = GetParam().start(handler_.get(), setup);
  ASSERT_NE(worker_, nullptr);
  link_ = Connect();
  ASSERT_NE(link_, nullptr);
  ASSERT_OK(link_->Health());
}

void LinkConformanceTest::ExpectAnswer(const StepHeader& header, uint64_t sender) {
  const absl::StatusOr<SwapResult> answer = recorder_.Await(header.step_id);
  ASSERT_OK(answer.status());
  const SwapResult expected = FakeSwapHandler::Negated(header, TaggedRows(header, sender));
  EXPECT_EQ(answer->rows, expected.rows) << "step " << header.step_id;
  EXPECT_EQ(answer->captured, expected.captured) << "step " << header.step_id;
  EXPECT_EQ(answer->expert_time, expected.expert_time);
  EXPECT_EQ(recorder_.calls(header.step_id), 1);
}

TEST_P(LinkConformanceTest, RowsComeBackExactAndInTheOrderOfTheSequences) {
  Start();
  const StepHeader header = MakeHeader(
      1,
      {{10, 0, 3, ReturnRows::kLast}, {11, 0, 2, ReturnRows::kNone}, {12, 0, 4, ReturnRows::kAll}},
      setup_.hidden_size);
  Send(header, 7);
  ExpectAnswer(header, 7);
  const std::vector<FakeSwapHandler::Event> events = handler_->events();
  ASSERT_EQ(events.size(), 1);
  EXPECT_EQ(events[0].rows, TaggedRows(header, 7));
}

TEST_P(LinkConformanceTest, TheHeaderArrivesWhole) {
  Start();
  StepHeader header =
      MakeHeader(9, {{77, 123, 1, ReturnRows::kLast}, {uint64_t{1} << 63, 0, 2, ReturnRows::kNone}},
                 setup_.hidden_size);
  header.expert = {"law", 42};
  header.layers = {3, 11};
  Send(header);
  ExpectAnswer(header);
  const StepHeader seen = handler_->events().at(0).header;
  EXPECT_EQ(seen.step_id, 9);
  EXPECT_EQ(seen.expert.ToString(), "law@42");
  EXPECT_TRUE(seen.layers == header.layers);
  EXPECT_EQ(seen.hidden_size, setup_.hidden_size);
  EXPECT_EQ(seen.wire_dtype, kernels::DType::kF32);
  EXPECT_FALSE(seen.capture_layers);
  ASSERT_EQ(seen.sequences.size(), 2);
  EXPECT_EQ(seen.sequences[0].sequence_id, 77);
  EXPECT_EQ(seen.sequences[0].first_position, 123);
  EXPECT_EQ(seen.sequences[1].sequence_id, uint64_t{1} << 63);
  EXPECT_EQ(seen.sequences[1].row_count, 2);
  EXPECT_EQ(seen.sequences[1].return_rows, ReturnRows::kNone);
}

TEST_P(LinkConformanceTest, AnEmptyReturnIsAnAnswer) {
  Start();
  const StepHeader header = MakeHeader(1, {{1, 0, 5, ReturnRows::kNone}}, setup_.hidden_size);
  Send(header);
  ExpectAnswer(header);
  EXPECT_THAT(recorder_.Await(1)->rows, IsEmpty());
}

TEST_P(LinkConformanceTest, RowsOfAnyStrideAreReadBeforeSwapReturns) {
  Start();
  const StepHeader header = Header(1, 2);
  std::vector<float> padded = {1, 2, 3, 4, -99, 5, 6, 7, 8, -99};
  handler_->Hold();
  link_->Swap(header, kernels::ConstMatrix{padded.data(), kernels::DType::kF32, 2, 4, 5},
              absl::Now() + kTestPatience, recorder_.Keep(1));
  std::fill(padded.begin(), padded.end(), 0.0f);
  ASSERT_TRUE(handler_->AwaitEvents(1));
  handler_->AnswerHeld();
  const absl::StatusOr<SwapResult> answer = recorder_.Await(1);
  ASSERT_OK(answer.status());
  EXPECT_THAT(answer->rows, ::testing::ElementsAre(-1, -2, -3, -4, -5, -6, -7, -8));
}

TEST_P(LinkConformanceTest, RowsOfTheDeviceStayThereBothWays) {
  Start();
  RowMemory* const memory = link_->device_memory();
  ASSERT_EQ(memory == nullptr ? nullptr : memory->device(), GetParam().device);
  for (const kernels::DType wire : {kernels::DType::kF32, kernels::DType::kBF16}) {
    StepHeader header = Header(wire == kernels::DType::kF32 ? 1 : 2, 3);
    header.wire_dtype = wire;
    Send(header);
    ExpectAnswer(header);
  }
  EXPECT_EQ(handler_->on_device(), memory != nullptr && GetParam().handler_on_device ? 2 : 0);
  if (memory == nullptr) return;
  // What was lent comes back, also from threads that end with it after the answer.
  const absl::Time patience = absl::Now() + kTestPatience;
  while (memory->free_bytes() != memory->size_bytes() && absl::Now() < patience) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(memory->free_bytes(), memory->size_bytes());
  // A link that takes a device's rows takes the host's too.
  const std::vector<float> rows = {1, 2, 3, 4};
  link_->Swap(Header(3), kernels::F32Matrix(rows.data(), 1, 4), absl::Now() + kTestPatience,
              recorder_.Keep(3));
  const absl::StatusOr<SwapResult> answer = recorder_.Await(3);
  ASSERT_OK(answer.status());
  EXPECT_THAT(answer->rows, ::testing::ElementsAre(-1, -2, -3, -4));
}

TEST_P(LinkConformanceTest, RowsOfAnotherDTypeThanTheWiresAreRefused) {
  Start();
  if (link_->device_memory() == nullptr) return;
  const std::vector<float> rows(4);
  link_->Swap(Header(1),
              testing::ToDevice(*link_->device_memory(), kernels::F32Matrix(rows.data(), 1, 4),
                                kernels::DType::kBF16),
              absl::Now() + kTestPatience, recorder_.Keep(1));
  EXPECT_THAT(recorder_.Await(1), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("expected [1, 4] f32, found [1, 4] bf16")));
}

TEST_P(LinkConformanceTest, WithoutRoomOnTheDeviceRowsGoThroughHostMemory) {
  Start();
  RowMemory* const memory = link_->device_memory();
  if (memory == nullptr) return;
  const int64_t rest = static_cast<int64_t>(memory->size_bytes() / sizeof(float));
  ASSERT_OK_AND_ASSIGN(const RowMemory::Fresh all, memory->Take(1, rest, kernels::DType::kF32));
  const std::vector<float> rows = {1, 2, 3, 4};
  link_->Swap(Header(1), kernels::F32Matrix(rows.data(), 1, 4), absl::Now() + kTestPatience,
              recorder_.Keep(1));
  const absl::StatusOr<SwapResult> answer = recorder_.Await(1);
  ASSERT_OK(answer.status());
  EXPECT_THAT(answer->rows, ::testing::ElementsAre(-1, -2, -3, -4));
  EXPECT_EQ(handler_->on_device(), 0);
}

TEST_P(LinkConformanceTest, BF16RowsAreRoundedOnceEachWayAndExactOtherwise) {
  Start();
  StepHeader exact = Header(1, 3);
  exact.wire_dtype = kernels::DType::kBF16;
  Send(exact, 2);
  ExpectAnswer(exact, 2);
  StepHeader rounded = Header(2);
  rounded.wire_dtype = kernels::DType::kBF16;
  const std::vector<float> rows = {0.1f, -1.0f / 3, 1e-3f, 12345.678f};
  recorder_.Send(*link_, rounded, rows);
  const absl::StatusOr<SwapResult> answer = recorder_.Await(2);
  ASSERT_OK(answer.status());
  ASSERT_EQ(answer->rows.size(), 4);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(answer->rows[i], -FromBF16(ToBF16(rows[i])));
}

TEST_P(LinkConformanceTest, CapturedLayersComeBackInF32) {
  Start();
  StepHeader header = Header(1, 3);
  header.capture_layers = true;
  header.sequences[0].return_rows = ReturnRows::kLast;
  Send(header);
  ExpectAnswer(header);
  EXPECT_EQ(recorder_.Await(1)->captured.size(), 2 * 3 * 4);
}

TEST_P(LinkConformanceTest, SwapsAndReleasesArriveInTheOrderTheyWereSent) {
  Start();
  for (uint64_t step = 1; step <= 40; ++step) {
    Send(Header(step, 1 + static_cast<int64_t>(step % 5)));
    if (step % 4 == 0) link_->ReleaseSequence(step);
  }
  for (uint64_t step = 1; step <= 40; ++step)
    ExpectAnswer(Header(step, 1 + static_cast<int64_t>(step % 5)));
  ASSERT_TRUE(handler_->AwaitEvents(50));
  uint64_t last_step = 0;
  for (const FakeSwapHandler::Event& event : handler_->events()) {
    if (event.release) {
      EXPECT_EQ(event.sequence_id, last_step);
    } else {
      EXPECT_EQ(event.step_id, last_step + 1);
      last_step = event.step_id;
    }
  }
}

TEST_P(LinkConformanceTest, OneSwapTooManyIsRefusedAndTheOthersGoOn) {
  LinkSetup setup;
  setup.max_swaps_in_flight = 3;
  Start(setup);
  handler_->Hold();
  for (uint64_t step = 1; step <= 4; ++step) Send(Header(step));
  EXPECT_THAT(recorder_.Await(4), StatusIs(absl::StatusCode::kResourceExhausted,
                                           HasSubstr("3 swaps in flight, at most 3")));
  ASSERT_TRUE(handler_->AwaitEvents(3));
  handler_->AnswerHeld();
  for (uint64_t step = 1; step <= 3; ++step) ExpectAnswer(Header(step));
  Send(Header(5));
  ExpectAnswer(Header(5));
  EXPECT_EQ(handler_->events().size(), 4);
  EXPECT_OK(link_->Health());
}

TEST_P(LinkConformanceTest, WrongHeadersAndShapesAreRefusedWithoutLeaving) {
  LinkSetup setup;
  setup.limits.max_rows = 8;
  Start(setup);
  Send(Header(1, 9));
  EXPECT_THAT(recorder_.Await(1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 to 8, found 9")));
  StepHeader wide = Header(2);
  wide.hidden_size = 5;
  Send(wide);
  EXPECT_THAT(recorder_.Await(2), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("hidden_size: expected 4, found 5")));
  StepHeader none = Header(3);
  none.sequences.clear();
  Send(none);
  EXPECT_THAT(recorder_.Await(3), StatusIs(absl::StatusCode::kInvalidArgument));
  const std::vector<float> rows(8);
  link_->Swap(Header(4, 3), kernels::F32Matrix(rows.data(), 2, 4), absl::Now() + kTestPatience,
              recorder_.Keep(4));
  EXPECT_THAT(recorder_.Await(4),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("rows of step 4: expected [3, 4] f32, found [2, 4] f32")));
  Send(Header(5));
  ExpectAnswer(Header(5));
  EXPECT_EQ(handler_->events().size(), 1);
}

TEST_P(LinkConformanceTest, StepIdsMustRise) {
  Start();
  Send(Header(5));
  ExpectAnswer(Header(5));
  SwapRecorder again;
  again.Send(*link_, Header(5), TaggedRows(Header(5), 1));
  EXPECT_THAT(again.Await(5), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("above 5")));
  Send(Header(4));
  EXPECT_THAT(recorder_.Await(4), StatusIs(absl::StatusCode::kInvalidArgument));
  Send(Header(6));
  ExpectAnswer(Header(6));
}

TEST_P(LinkConformanceTest, TheHandlersErrorsComeThroughWithTheirCode) {
  Start();
  const std::vector<absl::Status> errors = {
      absl::NotFoundError("no such expert"), absl::FailedPreconditionError("recompute from 0"),
      absl::ResourceExhaustedError("out of KV pages"), absl::InvalidArgumentError("wrong layers")};
  uint64_t step = 0;
  for (const absl::Status& error : errors) {
    handler_->SetScript([error](const StepHeader&) { return error; });
    Send(Header(++step));
    EXPECT_THAT(recorder_.Await(step),
                StatusIs(error.code(), HasSubstr(std::string(error.message()))));
  }
  handler_->SetScript(nullptr);
  Send(Header(++step));
  ExpectAnswer(Header(step));
}

TEST_P(LinkConformanceTest, AnAnswerOfTheWrongShapeIsAnErrorNotMemory) {
  Start();
  handler_->SetScript([](const StepHeader&) {
    SwapResult result;
    result.rows.resize(3);
    return result;
  });
  Send(Header(1, 2));
  EXPECT_THAT(recorder_.Await(1), StatusIs(absl::StatusCode::kInternal));
}

TEST_P(LinkConformanceTest, AMissedDeadlineEndsTheSwapAndTheLink) {
  Start();
  handler_->Hold();
  recorder_.Send(*link_, Header(1), TaggedRows(Header(1), 1), absl::Now() + absl::Milliseconds(50));
  Send(Header(2));
  EXPECT_THAT(recorder_.Await(1),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("no answer to step 1")));
  EXPECT_THAT(recorder_.Await(2),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("step 2 was in flight")));
  EXPECT_THAT(link_->Health(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no answer to step 1")));
  // The late answers find nobody.
  handler_->AnswerHeld();
  EXPECT_TRUE(handler_->AwaitPeers(0));
  Send(Header(3));
  EXPECT_THAT(recorder_.Await(3), StatusIs(absl::StatusCode::kUnavailable));
  link_.reset();
  EXPECT_EQ(recorder_.calls(1), 1);
  EXPECT_EQ(recorder_.calls(2), 1);
}

TEST_P(LinkConformanceTest, ADeadlineThatHasPassedIsRefusedAndTheLinkLives) {
  Start();
  recorder_.Send(*link_, Header(1), TaggedRows(Header(1), 1), absl::Now() - absl::Seconds(1));
  EXPECT_THAT(recorder_.Await(1), StatusIs(absl::StatusCode::kDeadlineExceeded));
  Send(Header(2));
  ExpectAnswer(Header(2));
}

TEST_P(LinkConformanceTest, CloseEndsWhatIsInFlightAndFreesThePeer) {
  Start();
  handler_->Hold();
  for (uint64_t step = 1; step <= 5; ++step) Send(Header(step));
  EXPECT_EQ(handler_->peers(), 1);
  link_->Close();
  for (uint64_t step = 1; step <= 5; ++step) {
    EXPECT_THAT(recorder_.Await(step),
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("closed")));
  }
  link_->Close();
  EXPECT_THAT(link_->Health(), StatusIs(absl::StatusCode::kUnavailable));
  Send(Header(6));
  EXPECT_THAT(recorder_.Await(6), StatusIs(absl::StatusCode::kUnavailable));
  link_->ReleaseSequence(1);
  EXPECT_TRUE(handler_->AwaitPeers(0));
  for (uint64_t step = 1; step <= 5; ++step) EXPECT_EQ(recorder_.calls(step), 1);
}

TEST_P(LinkConformanceTest, DestructionClosesFirst) {
  Start();
  handler_->Hold();
  Send(Header(1));
  link_.reset();
  EXPECT_EQ(recorder_.calls(1), 1);
  EXPECT_THAT(recorder_.Await(1), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_TRUE(handler_->AwaitPeers(0));
}

TEST_P(LinkConformanceTest, ClosingOneLinkLeavesTheOthersAlone) {
  Start();
  std::unique_ptr<ActivationLink> other = Connect();
  ASSERT_NE(other, nullptr);
  handler_->Hold();
  Send(Header(1));
  SwapRecorder others;
  others.Send(*other, Header(1), TaggedRows(Header(1), 2));
  ASSERT_TRUE(handler_->AwaitEvents(2));
  link_->Close();
  EXPECT_THAT(recorder_.Await(1), StatusIs(absl::StatusCode::kUnavailable));
  ASSERT_TRUE(handler_->AwaitPeers(1));
  handler_->AnswerHeld();
  const absl::StatusOr<SwapResult> answer = others.Await(1);
  ASSERT_OK(answer.status());
  EXPECT_EQ(answer->rows, FakeSwapHandler::Negated(Header(1), TaggedRows(Header(1), 2)).rows);
  std::set<uint64_t> peers;
  for (const FakeSwapHandler::Event& event : handler_->events()) peers.insert(event.peer_id);
  EXPECT_EQ(peers.size(), 2);
}

TEST_P(LinkConformanceTest, TensOfMegabytesTravelUnharmed) {
  LinkSetup setup;
  setup.hidden_size = 2048;
  Start(setup);
  const StepHeader header = MakeHeader(
      1, {{1, 0, 2000, ReturnRows::kAll}, {2, 0, 2000, ReturnRows::kLast}}, setup.hidden_size);
  Send(header, 3);
  ExpectAnswer(header, 3);
}

TEST_P(LinkConformanceTest, ManyThreadsShareALinkAndGetTheirOwnAnswers) {
  Start();
  absl::Mutex step_mutex;
  uint64_t last_step = 0;
  constexpr int kThreads = 8, kSwaps = 40;
  std::vector<std::thread> threads;
  for (uint64_t sender = 1; sender <= kThreads; ++sender) {
    threads.emplace_back([&, sender] {
      for (int i = 0; i < kSwaps; ++i) {
        StepHeader header;
        {
          absl::MutexLock lock(&step_mutex);
          header = Header(++last_step, 1 + i % 3, sender);
          Send(header, sender);
        }
        ExpectAnswer(header, sender);
        if (i % 8 == 0) link_->ReleaseSequence(sender);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_OK(link_->Health());
}

TEST_P(LinkConformanceTest, CloseMayComeWhileOthersSend) {
  Start();
  constexpr uint64_t kSwaps = 200;
  std::thread sender([&] {
    for (uint64_t step = 1; step <= kSwaps; ++step) {
      Send(Header(step));
      link_->ReleaseSequence(step);
    }
  });
  EXPECT_TRUE(handler_->AwaitEvents(10));
  link_->Close();
  sender.join();
  for (uint64_t step = 1; step <= kSwaps; ++step) {
    const absl::StatusOr<SwapResult> answer = recorder_.Await(step);
    if (!answer.ok()) {
      EXPECT_THAT(answer, AnyOf(StatusIs(absl::StatusCode::kUnavailable),
                                StatusIs(absl::StatusCode::kResourceExhausted)));
    }
    EXPECT_EQ(recorder_.calls(step), 1);
  }
}

TEST_P(LinkConformanceTest, AWorkerThatStopsEndsItsSwapsWithUnavailable) {
  if (!GetParam().worker_can_die) GTEST_SKIP() << "worker and link end together";
  Start();
  handler_->Hold();
  for (uint64_t step = 1; step <= 3; ++step) Send(Header(step));
  ASSERT_TRUE(handler_->AwaitEvents(3));
  worker_.reset();
  for (uint64_t step = 1; step <= 3; ++step) {
    EXPECT_THAT(recorder_.Await(step), StatusIs(absl::StatusCode::kUnavailable));
  }
  EXPECT_THAT(link_->Health(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(handler_->peers(), 0);
}

TEST_P(LinkConformanceTest, CallbacksNeverRunInsideSwap) {
  Start();
  // A user that holds its lock while it sends, and takes it in the callback, must not deadlock:
  // neither for an answer given at once nor for a refusal.
  absl::Mutex users;
  absl::Notification answered, refused;
  const std::vector<float> rows(4);
  {
    absl::MutexLock lock(&users);
    link_->Swap(Header(1), kernels::F32Matrix(rows.data(), 1, 4), absl::Now() + kTestPatience,
                [&](absl::StatusOr<SwapResult>) {
                  { absl::MutexLock lock(&users); }
                  answered.Notify();
                });
    link_->Swap(Header(1), kernels::F32Matrix(rows.data(), 1, 4), absl::Now() + kTestPatience,
                [&](absl::StatusOr<SwapResult>) {
                  { absl::MutexLock lock(&users); }
                  refused.Notify();
                });
  }
  EXPECT_TRUE(answered.WaitForNotificationWithTimeout(kTestPatience));
  EXPECT_TRUE(refused.WaitForNotificationWithTimeout(kTestPatience));
}

}  // namespace ccoe::exchange
