// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/exchange/link_conformance.h"

#include <cmath>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "runtime/exchange/row_block.h"
#include "tests/testing/device_rows.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {

using ::ccoe::testing::FakeSwapHandler;
using ::testing::AnyOf;
using ::testing::ElementsAre;
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

void LinkConformanceTest::ExpectAnswer(const SwapHeader& header, uint64_t sender) {
  const absl::StatusOr<SwapResult> answer = recorder_.Await(header.id);
  ASSERT_OK(answer.status());
  const SwapResult expected = FakeSwapHandler::Negated(header, TaggedRows(header, sender));
  EXPECT_EQ(answer->rows, expected.rows) << "swap " << header.id;
  EXPECT_EQ(answer->captured, expected.captured) << "swap " << header.id;
  EXPECT_EQ(answer->expert_time, expected.expert_time);
  EXPECT_EQ(recorder_.calls(header.id), 1);
}

TEST_P(LinkConformanceTest, RowsComeBackExactAndInTheOrderOfTheSequences) {
  Start();
  const SwapHeader header = MakeHeader(
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
  SwapHeader header =
      MakeHeader(9, {{77, 123, 1, ReturnRows::kLast}, {uint64_t{1} << 63, 0, 2, ReturnRows::kNone}},
                 setup_.hidden_size);
  LayerOf(header).expert = {"law", 42};
  LayerOf(header).layers = {3, 11};
  Send(header);
  ExpectAnswer(header);
  EXPECT_EQ(handler_->events().at(0).step_id, 1009);
  const SwapHeader seen = handler_->events().at(0).header;
  EXPECT_EQ(seen.id, 9);
  EXPECT_EQ(seen.format.hidden_size, setup_.hidden_size);
  EXPECT_EQ(seen.format.dtype, kernels::DType::kF32);
  ASSERT_NE(seen.layer(), nullptr);
  EXPECT_EQ(seen.layer()->expert.ToString(), "law@42");
  EXPECT_TRUE(seen.layer()->layers == header.layer()->layers);
  EXPECT_FALSE(seen.layer()->capture_layers);
  const std::vector<SwapSequence>& sequences = seen.layer()->sequences;
  ASSERT_EQ(sequences.size(), 2);
  EXPECT_EQ(sequences[0].sequence_id, 77);
  EXPECT_EQ(sequences[0].first_position, 123);
  EXPECT_EQ(sequences[1].sequence_id, uint64_t{1} << 63);
  EXPECT_EQ(sequences[1].row_count, 2);
  EXPECT_EQ(sequences[1].return_rows, ReturnRows::kNone);
}

TEST_P(LinkConformanceTest, AnEmptyReturnIsAnAnswer) {
  Start();
  const SwapHeader header = MakeHeader(1, {{1, 0, 5, ReturnRows::kNone}}, setup_.hidden_size);
  Send(header);
  ExpectAnswer(header);
  EXPECT_THAT(recorder_.Await(1)->rows, IsEmpty());
}

TEST_P(LinkConformanceTest, SwapsOfOneEnvelopeShareABlockAndNameTheirRows) {
  Start();
  const RowBlock block(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  for (const kernels::DType wire : {kernels::DType::kF32, kernels::DType::kBF16}) {
    const uint64_t id = wire == kernels::DType::kF32 ? 1 : 4;
    Envelope envelope;
    envelope.step_id = 77;
    Add(envelope, Header(id, 2), {block, {2, 0}});
    Add(envelope, MakeDispatch(id + 1, {{0}}, setup_.hidden_size), {block, {1}});
    Add(envelope, Header(id + 2, 3, 9), {block, {}});
    for (Swap& swap : envelope.swaps) swap.header.format.dtype = wire;
    link_->Send(std::move(envelope), recorder_.Keep());
    EXPECT_THAT(Rows(id), ElementsAre(-9, -10, -11, -12, -1, -2, -3, -4));
    EXPECT_THAT(Rows(id + 1), ElementsAre(-5, -6, -7, -8));
    EXPECT_THAT(Rows(id + 2), ElementsAre(-1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12));
  }
  for (const FakeSwapHandler::Event& event : handler_->events()) EXPECT_EQ(event.step_id, 77);
}

TEST_P(LinkConformanceTest, RowsAreRoundedAsTheyAreGathered) {
  Start();
  SwapHeader header = Header(1, 1);
  header.format.dtype = kernels::DType::kBF16;
  link_->Send(
      OneSwap(header, {RowBlock(std::vector<float>{9, 9, 9, 9, 0.1f, 0.2f, 0.3f, 0.4f}), {1}}),
      recorder_.Keep());
  const float rows[] = {0.1f, 0.2f, 0.3f, 0.4f};
  const std::vector<float> back = Rows(1);
  ASSERT_EQ(back.size(), 4);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(back[i], -FromBF16(ToBF16(rows[i])));
}

TEST_P(LinkConformanceTest, EachSwapOfAnEnvelopeIsAnsweredAsSoonAsItIsComputed) {
  Start();
  handler_->SetScript([](const SwapHeader& header) -> absl::StatusOr<SwapResult> {
    if (header.id == 2) return SwapError(SwapReason::kUnknownExpert, "no such expert");
    return FakeSwapHandler::Negated(header, TaggedRows(header, 1));
  });
  Envelope envelope;
  for (uint64_t id = 1; id <= 3; ++id) {
    Add(envelope, Header(id, 2, id), {RowBlock(TaggedRows(Header(id, 2), 1)), {}});
  }
  link_->Send(std::move(envelope), recorder_.Keep());
  ExpectAnswer(Header(1, 2, 1));
  EXPECT_THAT(recorder_.Await(2), FailsWith(SwapReason::kUnknownExpert));
  ExpectAnswer(Header(3, 2, 3));
  EXPECT_TRUE(link_->healthy());
}

TEST_P(LinkConformanceTest, VerdictsComeBackForTheSequencesTheyAreOf) {
  Start();
  const SwapHeader header = MakeHeader(
      1, {{1, 0, 2, ReturnRows::kAll}, {2, 0, 1, ReturnRows::kAll}, {3, 0, 2, ReturnRows::kLast}},
      setup_.hidden_size);
  handler_->SetScript([&](const SwapHeader& each) -> absl::StatusOr<SwapResult> {
    SwapResult result = FakeSwapHandler::Negated(each, TaggedRows(each, 1), {1});
    result.verdicts[0] = SwapError(SwapReason::kNoPages, "no 3 pages are free");
    return result;
  });
  Send(header);
  const absl::StatusOr<SwapResult> answer = recorder_.Await(1);
  ASSERT_OK(answer.status());
  ASSERT_EQ(answer->verdicts.size(), 3);
  EXPECT_THAT(answer->verdicts[0],
              FailsWith(SwapReason::kNoPages, HasSubstr("no 3 pages are free")));
  EXPECT_TRUE(answer->computed(1));
  EXPECT_TRUE(answer->computed(2));
  const std::vector<float> sent = TaggedRows(header, 1);
  std::vector<float> expected;
  for (const size_t row : {2, 4}) {
    for (size_t i = row * 4; i < (row + 1) * 4; ++i) expected.push_back(-sent[i]);
  }
  EXPECT_EQ(answer->rows, expected);
}

TEST_P(LinkConformanceTest, AReleasedSequenceLeavesTheSwapsThatWait) {
  Start();
  handler_->Hold();
  const SwapHeader header =
      MakeHeader(1, {{1, 0, 1, ReturnRows::kAll}, {2, 0, 1, ReturnRows::kAll}}, setup_.hidden_size);
  Send(header);
  link_->ReleaseSequence(2);
  ASSERT_TRUE(handler_->AwaitEvents(2));
  handler_->AnswerHeld();
  const absl::StatusOr<SwapResult> answer = recorder_.Await(1);
  ASSERT_OK(answer.status());
  EXPECT_EQ(answer->rows.size(), 4);
  EXPECT_TRUE(answer->computed(0));
  EXPECT_THAT(answer->verdicts.at(1), FailsWith(SwapReason::kCancelled));
}

TEST_P(LinkConformanceTest, CancelledSwapsAreAnsweredAndTheOthersGoOn) {
  Start();
  handler_->Hold();
  for (uint64_t id = 1; id <= 4; ++id) Send(Header(id));
  ASSERT_TRUE(handler_->AwaitEvents(4));
  link_->CancelSwaps({2, 3, 99});
  for (const uint64_t id : {2, 3}) {
    EXPECT_THAT(recorder_.Await(id), FailsWith(SwapReason::kCancelled));
  }
  link_->CancelSwaps({2, 99});  // answered long ago, or never sent
  handler_->AnswerHeld();
  for (const uint64_t id : {1, 4}) ExpectAnswer(Header(id));
  Send(Header(5));
  ExpectAnswer(Header(5));
  for (uint64_t id = 1; id <= 5; ++id) EXPECT_EQ(recorder_.calls(id), 1);
  EXPECT_OK(link_->Health());
}

TEST_P(LinkConformanceTest, SaysWhereASwapIs) {
  Start();
  EXPECT_EQ(link_->WhereIs(1), "not in flight");
  handler_->Hold();
  Send(Header(1));
  ASSERT_TRUE(handler_->AwaitEvents(1));
  const absl::Time patience = absl::Now() + kTestPatience;
  const std::string expected = "waits at the worker, which computes math@1 since ";
  // Over a wire the next heartbeat says so.
  while (link_->WhereIs(1).rfind(expected, 0) != 0 && absl::Now() < patience) {
    EXPECT_THAT(link_->WhereIs(1),
                AnyOf(HasSubstr("waits to be sent"), HasSubstr("sent, not taken in by the worker"),
                      HasSubstr("waits at the worker")));
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_THAT(link_->WhereIs(1), HasSubstr(expected));
  handler_->AnswerHeld();
  ExpectAnswer(Header(1));
  EXPECT_EQ(link_->WhereIs(1), "not in flight");
}

TEST_P(LinkConformanceTest, SaysWhoIsAtTheOtherEndAndWhatAnEnvelopeMayCarry) {
  LinkSetup setup;
  setup.limits.max_rows = 321;
  Start(setup);
  EXPECT_EQ(link_->peer().numerics, "fake numerics");
  EXPECT_FALSE(link_->peer().worker_id.empty());
  EXPECT_EQ(link_->bounds().max_rows, 321);
  EXPECT_TRUE(link_->healthy());
}

TEST_P(LinkConformanceTest, RowsOfTheDeviceStayThereBothWays) {
  Start();
  RowMemory* const memory = link_->device_memory();
  ASSERT_EQ(memory == nullptr ? nullptr : memory->device(), GetParam().device);
  for (const kernels::DType wire : {kernels::DType::kF32, kernels::DType::kBF16}) {
    SwapHeader header = Header(wire == kernels::DType::kF32 ? 1 : 2, 3);
    header.format.dtype = wire;
    Send(header);
    ExpectAnswer(header);
  }
  EXPECT_EQ(handler_->on_device(), memory != nullptr && GetParam().handler_on_device ? 2 : 0);
  if (memory == nullptr) return;  // all there is to see without a device was seen
  // What was lent comes back, also from threads that end with it after the answer.
  const absl::Time patience = absl::Now() + kTestPatience;
  while (memory->free_bytes() != memory->size_bytes() && absl::Now() < patience) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(memory->free_bytes(), memory->size_bytes());
  // A link that takes a device's rows takes the host's too.
  const std::vector<float> rows = {1, 2, 3, 4};
  link_->Send(OneSwap(Header(3), rows), recorder_.Keep());
  const absl::StatusOr<SwapResult> answer = recorder_.Await(3);
  ASSERT_OK(answer.status());
  EXPECT_THAT(answer->rows, ElementsAre(-1, -2, -3, -4));
}

TEST_P(LinkConformanceTest, RowsOfAnotherDTypeThanTheWiresAreRefused) {
  Start();
  if (link_->device_memory() == nullptr) GTEST_SKIP() << "takes rows of host memory only";
  const std::vector<float> rows(4);
  const RowBlock narrow = testing::ToDevice(
      *link_->device_memory(), kernels::F32Matrix(rows.data(), 1, 4), kernels::DType::kBF16);
  link_->Send(OneSwap(Header(1), {narrow, {}}), recorder_.Keep());
  EXPECT_THAT(recorder_.Await(1),
              FailsWith(SwapReason::kInvalid,
                        HasSubstr("rows: expected [1, 4] f32, found 4 values of bf16")));
}

TEST_P(LinkConformanceTest, WithoutRoomOnTheDeviceRowsGoThroughHostMemory) {
  Start();
  RowMemory* const memory = link_->device_memory();
  if (memory == nullptr) GTEST_SKIP() << "takes rows of host memory only";
  const int64_t rest = static_cast<int64_t>(memory->size_bytes() / sizeof(float));
  ASSERT_OK_AND_ASSIGN(const RowMemory::Fresh all, memory->Take(1, rest, kernels::DType::kF32));
  const std::vector<float> rows = {1, 2, 3, 4};
  link_->Send(OneSwap(Header(1), rows), recorder_.Keep());
  const absl::StatusOr<SwapResult> answer = recorder_.Await(1);
  ASSERT_OK(answer.status());
  EXPECT_THAT(answer->rows, ElementsAre(-1, -2, -3, -4));
  EXPECT_EQ(handler_->on_device(), 0);
}

TEST_P(LinkConformanceTest, BF16RowsAreRoundedOnceEachWayAndExactOtherwise) {
  Start();
  SwapHeader exact = Header(1, 3);
  exact.format.dtype = kernels::DType::kBF16;
  Send(exact, 2);
  ExpectAnswer(exact, 2);
  SwapHeader rounded = Header(2);
  rounded.format.dtype = kernels::DType::kBF16;
  const std::vector<float> rows = {0.1f, -1.0f / 3, 1e-3f, 12345.678f};
  recorder_.Send(*link_, rounded, rows);
  const absl::StatusOr<SwapResult> answer = recorder_.Await(2);
  ASSERT_OK(answer.status());
  ASSERT_EQ(answer->rows.size(), 4);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(answer->rows[i], -FromBF16(ToBF16(rows[i])));
}

TEST_P(LinkConformanceTest, CapturedLayersComeBackInF32) {
  Start();
  SwapHeader header = Header(1, 3);
  LayerOf(header).capture_layers = true;
  LayerOf(header).sequences[0].return_rows = ReturnRows::kLast;
  Send(header);
  ExpectAnswer(header);
  EXPECT_EQ(recorder_.Await(1)->captured.size(), 2 * 3 * 4);
}

TEST_P(LinkConformanceTest, SwapsAndReleasesArriveInTheOrderTheyWereSent) {
  Start();
  for (uint64_t swap = 1; swap <= 40; ++swap) {
    Send(Header(swap, 1 + static_cast<int64_t>(swap % 5)));
    if (swap % 4 == 0) link_->ReleaseSequence(swap);
  }
  for (uint64_t swap = 1; swap <= 40; ++swap)
    ExpectAnswer(Header(swap, 1 + static_cast<int64_t>(swap % 5)));
  ASSERT_TRUE(handler_->AwaitEvents(50));
  uint64_t last_swap = 0;
  for (const FakeSwapHandler::Event& event : handler_->events()) {
    if (event.release) {
      EXPECT_EQ(event.sequence_id, last_swap);
    } else {
      EXPECT_EQ(event.swap_id, last_swap + 1);
      last_swap = event.swap_id;
    }
  }
}

TEST_P(LinkConformanceTest, WhatHasNoCreditWaitsAndOneTooManyIsRefused) {
  LinkSetup setup;
  setup.credit.swaps = 3;
  setup.backlog.swaps = 2;
  Start(setup);
  handler_->Hold();
  for (uint64_t swap = 1; swap <= 6; ++swap) Send(Header(swap));
  EXPECT_THAT(recorder_.Await(6),
              FailsWith(SwapReason::kLinkFull, HasSubstr("6 swaps of 192 bytes would be in flight, "
                                                         "at most 5")));
  const size_t out = GetParam().has_wire ? 3 : 5;
  ASSERT_TRUE(handler_->AwaitEvents(out));
  if (GetParam().has_wire) {
    EXPECT_EQ(link_->WhereIs(4), "waits to be sent: no credit");
  }
  EXPECT_EQ(handler_->events().size(), out);
  handler_->AnswerHeld();
  for (uint64_t swap = 1; swap <= 5; ++swap) ExpectAnswer(Header(swap));
  Send(Header(7));
  ExpectAnswer(Header(7));
  EXPECT_EQ(handler_->events().size(), 6);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(handler_->events()[i].swap_id, i + 1);
  EXPECT_OK(link_->Health());
}

TEST_P(LinkConformanceTest, CreditsCountBytesOfBothWays) {
  LinkSetup setup;
  setup.credit.bytes = 3 * 32;  // a row of four f32 and its answer are 32
  setup.backlog.bytes = 32;
  Start(setup);
  handler_->Hold();
  for (uint64_t swap = 1; swap <= 2; ++swap) Send(Header(swap));
  Envelope two;
  for (uint64_t id = 3; id <= 4; ++id) {
    Add(two, Header(id), {RowBlock(TaggedRows(Header(id), 1)), {}});
  }
  link_->Send(std::move(two), recorder_.Keep());
  Send(Header(5));
  EXPECT_THAT(recorder_.Await(5), FailsWith(SwapReason::kLinkFull, HasSubstr("160 bytes")));
  // The envelope has credit for one of its swaps: it waits as a whole.
  const size_t out = GetParam().has_wire ? 2 : 4;
  ASSERT_TRUE(handler_->AwaitEvents(out));
  EXPECT_EQ(handler_->events().size(), out);
  handler_->AnswerHeld();
  for (uint64_t swap = 1; swap <= 4; ++swap) ExpectAnswer(Header(swap));
  EXPECT_OK(link_->Health());
}

TEST_P(LinkConformanceTest, WhatWaitsForCreditCanBeCancelledAndNeverLeaves) {
  if (!GetParam().has_wire) GTEST_SKIP() << "nothing waits at the sender";
  LinkSetup setup;
  setup.credit.swaps = 2;
  Start(setup);
  handler_->Hold();
  for (uint64_t swap = 1; swap <= 3; ++swap) Send(Header(swap));
  Envelope two;
  for (uint64_t id = 4; id <= 5; ++id) {
    Add(two, Header(id), {RowBlock(TaggedRows(Header(id), 1)), {}});
  }
  link_->Send(std::move(two), recorder_.Keep());
  ASSERT_TRUE(handler_->AwaitEvents(2));
  link_->CancelSwaps({3, 4});
  for (const uint64_t id : {3, 4}) {
    EXPECT_THAT(recorder_.Await(id), FailsWith(SwapReason::kCancelled, HasSubstr("before it was")));
    EXPECT_EQ(link_->WhereIs(id), "not in flight");
  }
  handler_->AnswerHeld();
  for (const uint64_t id : {1, 2, 5}) ExpectAnswer(Header(id));
  for (const FakeSwapHandler::Event& event : handler_->events()) {
    EXPECT_FALSE(event.cancel || event.swap_id == 3 || event.swap_id == 4) << event.swap_id;
  }
}

TEST_P(LinkConformanceTest, AReleaseKeepsItsPlaceBehindWhatWaitsForCredit) {
  LinkSetup setup;
  setup.credit.swaps = 1;
  Start(setup);
  handler_->Hold();
  Send(Header(1));
  ASSERT_TRUE(handler_->AwaitEvents(1));
  if (GetParam().has_wire) {
    Send(Header(2));
  }
  link_->ReleaseSequence(44);
  handler_->AnswerHeld();
  const size_t all = GetParam().has_wire ? 3 : 2;
  ASSERT_TRUE(handler_->AwaitEvents(all));
  EXPECT_TRUE(handler_->events()[all - 1].release);
}

TEST_P(LinkConformanceTest, AnEnvelopeThatCouldNeverFitIsInvalid) {
  LinkSetup setup;
  setup.limits.max_swaps = 2;
  Start(setup);
  Envelope three;
  for (uint64_t id = 1; id <= 3; ++id) {
    Add(three, Header(id), {RowBlock(TaggedRows(Header(id), 1)), {}});
  }
  link_->Send(std::move(three), recorder_.Keep());
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_THAT(recorder_.Await(id),
                FailsWith(SwapReason::kInvalid, HasSubstr("swaps: expected 1 to 2, found 3")));
  }
  EXPECT_TRUE(handler_->events().empty());
  EXPECT_TRUE(link_->healthy());
}

TEST_P(LinkConformanceTest, WrongHeadersAndShapesAreRefusedWithoutLeaving) {
  LinkSetup setup;
  setup.limits.max_rows = 8;
  Start(setup);
  Send(Header(1, 9));
  EXPECT_THAT(recorder_.Await(1), FailsWith(SwapReason::kInvalid, HasSubstr("1 to 8, found 9")));
  SwapHeader wide = Header(2);
  wide.format.hidden_size = 5;
  Send(wide);
  EXPECT_THAT(recorder_.Await(2),
              FailsWith(SwapReason::kInvalid, HasSubstr("hidden_size: expected 4, found 5")));
  SwapHeader none = Header(3);
  LayerOf(none).sequences.clear();
  Send(none);
  EXPECT_THAT(recorder_.Await(3), FailsWith(SwapReason::kInvalid));
  link_->Send(OneSwap(Header(4, 3), std::vector<float>(8)), recorder_.Keep());
  EXPECT_THAT(recorder_.Await(4),
              FailsWith(SwapReason::kInvalid,
                        HasSubstr("swap 4: rows: expected [3, 4] f32, found 8 values")));
  link_->Send(OneSwap(Header(5, 1), {RowBlock(std::vector<float>(8)), {2}}), recorder_.Keep());
  EXPECT_THAT(recorder_.Await(5),
              FailsWith(SwapReason::kInvalid, HasSubstr("row index: expected 0 to 1, found 2")));
  // The rows of an envelope count together, and one dtype is spoken in it.
  Envelope together;
  Add(together, Header(6, 5), {RowBlock(TaggedRows(Header(6, 5), 1)), {}});
  Add(together, Header(7, 5), {RowBlock(TaggedRows(Header(7, 5), 1)), {}});
  link_->Send(together, recorder_.Keep());
  EXPECT_THAT(recorder_.Await(7), FailsWith(SwapReason::kInvalid, HasSubstr("at most 8 rows")));
  together.swaps.back().header.id = 8;
  together.swaps.back().header.format.dtype = kernels::DType::kBF16;
  link_->Send(together, recorder_.Keep());
  EXPECT_THAT(recorder_.Await(8), FailsWith(SwapReason::kInvalid, HasSubstr("wire_dtype")));
  Send(Header(9));
  ExpectAnswer(Header(9));
  EXPECT_EQ(handler_->events().size(), 1);
}

TEST_P(LinkConformanceTest, SwapIdsMustRise) {
  Start();
  Send(Header(5));
  ExpectAnswer(Header(5));
  SwapRecorder again;
  again.Send(*link_, Header(5), TaggedRows(Header(5), 1));
  EXPECT_THAT(again.Await(5), FailsWith(SwapReason::kInvalid, HasSubstr("above 5")));
  Send(Header(4));
  EXPECT_THAT(recorder_.Await(4), FailsWith(SwapReason::kInvalid));
  Send(Header(6));
  ExpectAnswer(Header(6));
}

TEST_P(LinkConformanceTest, TheHandlersErrorsComeThroughWithTheirReason) {
  Start();
  uint64_t swap = 0;
  for (int number = 1; number <= static_cast<int>(SwapReason::kLinkBroken); ++number) {
    const absl::Status error =
        SwapError(static_cast<SwapReason>(number), absl::StrCat("words of reason ", number));
    handler_->SetScript([error](const SwapHeader&) { return error; });
    Send(Header(++swap));
    EXPECT_THAT(recorder_.Await(swap),
                FailsWith(static_cast<SwapReason>(number), HasSubstr(error.message().data())));
    EXPECT_EQ(recorder_.Await(swap).status().code(), error.code());
  }
  handler_->SetScript([](const SwapHeader&) { return absl::NotFoundError("a plain status"); });
  Send(Header(++swap));
  EXPECT_THAT(recorder_.Await(swap), FailsWith(SwapReason::kInternal, HasSubstr("plain status")));
  handler_->SetScript(nullptr);
  Send(Header(++swap));
  ExpectAnswer(Header(swap));
}

TEST_P(LinkConformanceTest, AnAnswerOfTheWrongShapeIsAnErrorNotMemory) {
  Start();
  handler_->SetScript([](const SwapHeader&) {
    SwapResult result;
    result.rows.resize(3);
    return result;
  });
  Send(Header(1, 2));
  EXPECT_THAT(recorder_.Await(1), FailsWith(SwapReason::kInternal, HasSubstr("expected 8 values")));
}

TEST_P(LinkConformanceTest, CloseEndsWhatIsInFlightAndFreesThePeer) {
  Start();
  handler_->Hold();
  for (uint64_t swap = 1; swap <= 5; ++swap) Send(Header(swap));
  EXPECT_EQ(handler_->peers(), 1);
  link_->Close();
  for (uint64_t swap = 1; swap <= 5; ++swap) {
    EXPECT_THAT(recorder_.Await(swap), FailsWith(SwapReason::kLinkBroken, HasSubstr("closed")));
  }
  link_->Close();
  EXPECT_THAT(link_->Health(), FailsWith(SwapReason::kLinkBroken));
  Send(Header(6));
  EXPECT_THAT(recorder_.Await(6), FailsWith(SwapReason::kLinkBroken));
  link_->ReleaseSequence(1);
  EXPECT_TRUE(handler_->AwaitPeers(0));
  for (uint64_t swap = 1; swap <= 5; ++swap) EXPECT_EQ(recorder_.calls(swap), 1);
}

TEST_P(LinkConformanceTest, DestructionClosesFirst) {
  Start();
  handler_->Hold();
  Send(Header(1));
  link_.reset();
  EXPECT_EQ(recorder_.calls(1), 1);
  EXPECT_THAT(recorder_.Await(1), FailsWith(SwapReason::kLinkBroken));
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
  EXPECT_THAT(recorder_.Await(1), FailsWith(SwapReason::kLinkBroken));
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
  const SwapHeader header = MakeHeader(
      1, {{1, 0, 2000, ReturnRows::kAll}, {2, 0, 2000, ReturnRows::kLast}}, setup.hidden_size);
  Send(header, 3);
  ExpectAnswer(header, 3);
}

TEST_P(LinkConformanceTest, ManyThreadsShareALinkAndGetTheirOwnAnswers) {
  Start();
  absl::Mutex swap_mutex;
  uint64_t last_swap = 0;
  constexpr int kThreads = 8, kSwaps = 40;
  std::vector<std::thread> threads;
  for (uint64_t sender = 1; sender <= kThreads; ++sender) {
    threads.emplace_back([&, sender] {
      for (int i = 0; i < kSwaps; ++i) {
        SwapHeader header;
        {
          absl::MutexLock lock(&swap_mutex);
          header = Header(++last_swap, 1 + i % 3, sender);
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
    for (uint64_t swap = 1; swap <= kSwaps; ++swap) {
      Send(Header(swap));
      link_->ReleaseSequence(swap);
    }
  });
  EXPECT_TRUE(handler_->AwaitEvents(10));
  link_->Close();
  sender.join();
  for (uint64_t swap = 1; swap <= kSwaps; ++swap) {
    const absl::StatusOr<SwapResult> answer = recorder_.Await(swap);
    if (!answer.ok()) {
      EXPECT_THAT(answer,
                  AnyOf(FailsWith(SwapReason::kLinkBroken), FailsWith(SwapReason::kLinkFull)));
    }
    EXPECT_EQ(recorder_.calls(swap), 1);
  }
}

TEST_P(LinkConformanceTest, AWorkerThatStopsEndsItsSwapsWithLinkBroken) {
  if (!GetParam().worker_can_die) GTEST_SKIP() << "worker and link end together";
  Start();
  handler_->Hold();
  for (uint64_t swap = 1; swap <= 3; ++swap) Send(Header(swap));
  ASSERT_TRUE(handler_->AwaitEvents(3));
  worker_.reset();
  for (uint64_t swap = 1; swap <= 3; ++swap) {
    EXPECT_THAT(recorder_.Await(swap), FailsWith(SwapReason::kLinkBroken));
  }
  EXPECT_THAT(link_->Health(), FailsWith(SwapReason::kLinkBroken));
  EXPECT_EQ(handler_->peers(), 0);
}

TEST_P(LinkConformanceTest, CallbacksNeverRunInsideSend) {
  Start();
  // A user that holds its lock while it sends, and takes it in the callback, must not deadlock:
  // neither for an answer given at once, nor for a refusal, nor for a cancel.
  absl::Mutex users;
  absl::Notification answered, refused;
  const auto notify = [&users](absl::Notification& notification) {
    return [&users, &notification](uint64_t, absl::StatusOr<SwapResult>) {
      { absl::MutexLock lock(&users); }
      notification.Notify();
    };
  };
  {
    absl::MutexLock lock(&users);
    link_->Send(OneSwap(Header(1), std::vector<float>(4)), notify(answered));
    link_->Send(OneSwap(Header(1), std::vector<float>(4)), notify(refused));
  }
  EXPECT_TRUE(answered.WaitForNotificationWithTimeout(kTestPatience));
  EXPECT_TRUE(refused.WaitForNotificationWithTimeout(kTestPatience));
}

}  // namespace ccoe::exchange
