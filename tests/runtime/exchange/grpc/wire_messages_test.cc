// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/wire_messages.h"

#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

SwapHeader Header() {
  SwapHeader header = MakeHeader(
      5, {{7, 10, 2, ReturnRows::kLast}, {8, 0, 1, ReturnRows::kNone}, {9, 1, 3, ReturnRows::kAll}},
      2);
  LayerOf(header).expert = {"math", 3};
  header.format.dtype = kernels::DType::kBF16;
  return header;
}

// The message of a swap, after a trip over the wire.
v1::SwapRequest Travelled(const SwapHeader& header) {
  v1::Envelope message;
  const size_t values = static_cast<size_t>(header.rows() * header.format.hidden_size);
  ToWire(OneSwap(header, std::vector<float>(values)), message);
  v1::Envelope parsed;
  EXPECT_TRUE(parsed.ParseFromString(message.SerializeAsString()));
  return parsed.swaps(0);
}

absl::StatusOr<SwapResult> Decoded(const v1::SwapAnswer& message, const SwapHeader& header) {
  return FromWire(message, header);
}

TEST(WireMessagesTest, AHeaderSurvivesTheRoundTrip) {
  SwapHeader header = Header();
  LayerOf(header).capture_layers = true;
  ASSERT_OK_AND_ASSIGN(const SwapHeader back, FromWire(Travelled(header), header.format));
  EXPECT_EQ(back.id, 5);
  ASSERT_NE(back.layer(), nullptr);
  EXPECT_EQ(back.layer()->expert.ToString(), "math@3");
  EXPECT_TRUE(back.layer()->layers == header.layer()->layers);
  EXPECT_TRUE(back.layer()->capture_layers);
  ASSERT_EQ(back.layer()->sequences.size(), 3);
  for (int i = 0; i < 3; ++i) {
    const SwapSequence &there = header.layer()->sequences[i], &here = back.layer()->sequences[i];
    EXPECT_EQ(here.sequence_id, there.sequence_id);
    EXPECT_EQ(here.first_position, there.first_position);
    EXPECT_EQ(here.row_count, there.row_count);
    EXPECT_EQ(here.return_rows, there.return_rows);
  }
}

TEST(WireMessagesTest, AnEnvelopeSaysItsStepAndFormatAndGathersItsRows) {
  Envelope envelope;
  envelope.step_id = 77;
  const RowBlock block(std::vector<float>{1, 2, 3, 4, 5, 6});
  Add(envelope, MakeHeader(1, {{1, 0, 2, ReturnRows::kAll}}, 2), {block, {2, 0}});
  Add(envelope, MakeHeader(2, {{1, 2, 3, ReturnRows::kAll}}, 2), {block, {}});
  v1::Envelope message;
  ToWire(envelope, message);
  EXPECT_EQ(message.step_id(), 77);
  ASSERT_OK_AND_ASSIGN(const RowFormat format, FormatOf(message));
  EXPECT_EQ(format.hidden_size, 2);
  EXPECT_EQ(format.dtype, kernels::DType::kF32);
  const float first[] = {5, 6, 1, 2};
  EXPECT_EQ(message.swaps(0).rows(), std::string(reinterpret_cast<const char*>(first), 16));
  EXPECT_EQ(message.swaps(1).rows().size(), 24);
  // Or beside the message, as many texts as swaps.
  v1::Envelope without;
  std::vector<std::string> beside;
  ToWire(envelope, without, &beside);
  ASSERT_EQ(beside.size(), 2);
  EXPECT_EQ(beside[0], message.swaps(0).rows());
  EXPECT_THAT(without.swaps(0).rows(), IsEmpty());
}

TEST(WireMessagesTest, RefusesEnumValuesItDoesNotKnow) {
  v1::Envelope envelope;
  envelope.set_wire_dtype(static_cast<v1::WireDtype>(9));
  EXPECT_THAT(FormatOf(envelope), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("expected f32 (1) or bf16 (2), found 9")));
  v1::SwapRequest message = Travelled(Header());
  message.mutable_layer()->mutable_sequences(1)->set_return_rows(v1::RETURN_ROWS_UNSPECIFIED);
  EXPECT_THAT(FromWire(message, {}), FailsWith(SwapReason::kInvalid, HasSubstr("return_rows")));
  message.clear_work();
  EXPECT_THAT(FromWire(message, {}), FailsWith(SwapReason::kInvalid, HasSubstr("work")));
}

TEST(WireMessagesTest, AResultSurvivesTheRoundTrip) {
  SwapResult result;
  result.rows = {1, 2, 3, 4, 5, 6, 7, 8};
  result.expert_time = absl::Microseconds(12);
  v1::SwapAnswer message;
  ToWire(Header(), std::move(result), message);
  EXPECT_EQ(message.swap_id(), 5);
  EXPECT_EQ(message.rows().size(), 16);
  ASSERT_OK_AND_ASSIGN(const SwapResult back, Decoded(message, Header()));
  EXPECT_THAT(back.rows, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(back.captured, IsEmpty());
  EXPECT_THAT(back.verdicts, IsEmpty());
  EXPECT_EQ(back.expert_time, absl::Microseconds(12));
}

TEST(WireMessagesTest, VerdictsTravelForThoseNotComputedAlone) {
  SwapResult result;
  result.rows = {1, 2};  // the first sequence's last row
  result.verdicts.resize(3);
  result.verdicts[2] = SwapError(SwapReason::kTooLong, "longer than the cache");
  v1::SwapAnswer message;
  ToWire(Header(), result, message);
  EXPECT_EQ(message.reason(), v1::SWAP_REASON_NONE);
  ASSERT_EQ(message.verdicts_size(), 1);
  ASSERT_OK_AND_ASSIGN(const SwapResult back, Decoded(message, Header()));
  EXPECT_THAT(back.rows, ElementsAre(1, 2));
  ASSERT_EQ(back.verdicts.size(), 3);
  EXPECT_TRUE(back.computed(0));
  EXPECT_THAT(back.verdicts[2], FailsWith(SwapReason::kTooLong, HasSubstr("than the cache")));
}

TEST(WireMessagesTest, VerdictsThatMakeNoSenseAreErrors) {
  v1::SwapAnswer good;
  good.set_swap_id(5);
  const auto add = [](v1::SwapAnswer& message, int32_t index, v1::SwapReason reason) {
    v1::Verdict& verdict = *message.add_verdicts();
    verdict.set_index(index);
    verdict.set_reason(reason);
  };
  for (const int32_t index : {-1, 3, 1 << 30}) {
    v1::SwapAnswer message = good;
    add(message, index, v1::SWAP_REASON_NO_PAGES);
    EXPECT_THAT(Decoded(message, Header()), Not(testing::IsOk()));
  }
  v1::SwapAnswer twice = good;
  add(twice, 1, v1::SWAP_REASON_NO_PAGES);
  add(twice, 1, v1::SWAP_REASON_NO_PAGES);
  EXPECT_THAT(Decoded(twice, Header()),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("of a sequence from 2 to 2")));
  v1::SwapAnswer none = good;
  add(none, 1, v1::SWAP_REASON_NONE);
  EXPECT_THAT(Decoded(none, Header()), Not(testing::IsOk()));
  v1::SwapAnswer ffn = good;
  add(ffn, 0, v1::SWAP_REASON_NO_PAGES);
  EXPECT_THAT(Decoded(ffn, MakeDispatch(5, {{0}}, 2)), Not(testing::IsOk()));
}

TEST(WireMessagesTest, AnErrorTravelsAsReasonAndMessage) {
  v1::SwapAnswer message;
  ToWire(Header(), SwapError(SwapReason::kUnknownExpert, "no math@3"), message);
  EXPECT_THAT(Decoded(message, Header()),
              FailsWith(SwapReason::kUnknownExpert, HasSubstr("no math@3")));
  message.set_reason(static_cast<v1::SwapReason>(77));
  EXPECT_THAT(Decoded(message, Header()), FailsWith(SwapReason::kInternal));
  message.set_reason(static_cast<v1::SwapReason>(-1));
  EXPECT_THAT(Decoded(message, Header()), FailsWith(SwapReason::kInternal));
}

TEST(WireMessagesTest, LongMessagesAreCut) {
  v1::SwapAnswer message;
  ToWire(Header(), absl::InternalError(std::string(100000, 'x')), message);
  EXPECT_LT(message.message().size(), 5000);
  message.set_message(std::string(100000, 'x'));
  EXPECT_LT(Decoded(message, Header()).status().message().size(), 5000);
}

TEST(WireMessagesTest, ResultsOfTheWrongShapeAreErrorsOnBothSides) {
  SwapResult result;
  result.rows = {1, 2, 3};
  v1::SwapAnswer message;
  ToWire(Header(), result, message);
  EXPECT_THAT(Decoded(message, Header()), FailsWith(SwapReason::kInternal));
  message.Clear();
  message.set_swap_id(5);
  message.set_rows("odd");
  EXPECT_THAT(Decoded(message, Header()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the answer to swap 5: rows: "
                                                                     "expected 16 bytes")));
  message.set_rows(std::string(16, '\0'));
  message.set_captured("1234");
  EXPECT_THAT(Decoded(message, Header()), Not(testing::IsOk()));
}

TEST(WireMessagesTest, BoundsWhatAMessageMustCarryEachWay) {
  SwapHeader header = Header();
  EXPECT_OK(CheckFitsMessage(header));
  header.format.hidden_size = 8192;
  LayerOf(header).sequences = {{1, 0, 4096, ReturnRows::kLast}};
  EXPECT_THAT(CheckFitsMessage(header),
              FailsWith(SwapReason::kInvalid, HasSubstr("sends 67108864 bytes")));
  LayerOf(header).sequences = {{1, 0, 1024, ReturnRows::kLast}};
  EXPECT_OK(CheckFitsMessage(header));
  LayerOf(header).capture_layers = true;
  EXPECT_THAT(CheckFitsMessage(header), FailsWith(SwapReason::kInvalid, HasSubstr("fewer rows")));
  const std::vector<std::vector<int32_t>> experts(1024, {0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_THAT(CheckFitsMessage(MakeDispatch(1, experts, 2048)),
              FailsWith(SwapReason::kInvalid, HasSubstr("asks for 67108864")));
  EXPECT_OK(CheckFitsMessage(MakeDispatch(1, experts, 2048, /*combine=*/true)));
}

TEST(WireMessagesTest, ADispatchSurvivesTheRoundTrip) {
  const SwapHeader header = MakeDispatch(7, {{0, 300}, {5}, {1, 2, 3}}, 2, /*combine=*/true);
  ASSERT_OK_AND_ASSIGN(const SwapHeader back, FromWire(Travelled(header), header.format));
  EXPECT_EQ(back.id, 7);
  ASSERT_NE(back.ffn(), nullptr);
  EXPECT_EQ(back.ffn()->layer, 3);
  EXPECT_TRUE(back.ffn()->combine);
  EXPECT_EQ(back.ffn()->offsets, header.ffn()->offsets);
  EXPECT_EQ(back.ffn()->experts, header.ffn()->experts);
  EXPECT_EQ(back.ffn()->weights, header.ffn()->weights);
  EXPECT_OK(Validate(back, 2));
}

TEST(WireMessagesTest, CountsThatDoNotFitTheExpertsAreRefusedBeforeTheyOverflow) {
  const SwapHeader header = MakeDispatch(7, {{0, 3}, {5}}, 2);
  v1::SwapRequest message = Travelled(header);
  for (const int32_t count : {0, -4, 2, 0x7fffffff}) {
    message.mutable_ffn()->set_counts(1, count);
    EXPECT_THAT(FromWire(message, header.format),
                FailsWith(SwapReason::kInvalid, HasSubstr("dispatch row 1: expected 1 to 1 ")));
  }
  message.mutable_ffn()->clear_counts();
  ASSERT_OK_AND_ASSIGN(const SwapHeader empty, FromWire(message, header.format));
  EXPECT_THAT(Validate(empty, 2), FailsWith(SwapReason::kInvalid));
}

TEST(WireMessagesTest, ProgressTravels) {
  const v1::HeartbeatReply reply = ToWire(3, {17, "layer 7", absl::Milliseconds(250)}, 99);
  EXPECT_EQ(reply.number(), 3);
  EXPECT_EQ(reply.last_swap_id(), 99);
  const HostProgress back = ProgressOf(reply);
  EXPECT_EQ(back.passes, 17);
  EXPECT_EQ(back.computing, "layer 7");
  EXPECT_EQ(back.since, absl::Milliseconds(250));
}

TEST(WireMessagesTest, RowsOfADeviceAreLeftToWhoeverCarriesThem) {
  testing::TaggedDevice device;
  ASSERT_OK_AND_ASSIGN(const auto memory, RowMemory::Create(&device, 4096));
  ASSERT_OK_AND_ASSIGN(const auto fresh, memory->Take(2, 4, kernels::DType::kF32));
  const SwapHeader header = MakeHeader(1, {{1, 0, 2, ReturnRows::kAll}}, 4);
  SwapResult result;
  result.device_rows = fresh.block;
  v1::SwapAnswer answer;
  ToWire(header, result, answer);
  EXPECT_EQ(answer.reason(), v1::SWAP_REASON_NONE);
  EXPECT_TRUE(answer.rows().empty());
  EXPECT_OK(FromWire(answer, header, /*rows_beside=*/true).status());
  // Without them the answer is short of its rows.
  EXPECT_THAT(Decoded(answer, header), Not(testing::IsOk()));
  ToWire(MakeHeader(2, {{1, 0, 3, ReturnRows::kAll}}, 4), result, answer);
  EXPECT_EQ(answer.reason(), v1::SWAP_REASON_INTERNAL);
}

TEST(WireMessagesTest, WhatAPeerSaysOfItselfForgesNoLogLine) {
  v1::HeartbeatReply lies;
  lies.set_computing("math@1\n\x1b[31mE0000 all is lost");
  lies.set_since_nanos(-1);
  const HostProgress progress = ProgressOf(lies);
  EXPECT_EQ(progress.computing, "math@1  [31mE0000 all is lost");
  EXPECT_EQ(progress.since, absl::ZeroDuration());
}

TEST(WireMessagesTest, WordsOfAPeerAreCutAtACharacterAndCleaned) {
  EXPECT_EQ(TextOf("x\xc2\x85y\xe2\x80\xa8z\xe2\x80\xaew"), "x y z w");  // NEL, LS, a bidi override
  EXPECT_EQ(TextOf("a\xff\xc3"), "a??");                                 // no UTF-8
  EXPECT_EQ(TextOf("na\xc3\xafve"), "na\xc3\xafve");
  const std::string longer = std::string(2047, 'a') + "\xc3\xaf";
  EXPECT_EQ(TextOf(longer), std::string(2047, 'a'));
}

}  // namespace
}  // namespace ccoe::exchange
