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

StepHeader Header() {
  StepHeader header;
  header.step_id = 5;
  header.expert = {"math", 3};
  header.layers = {6, 8};
  header.hidden_size = 2;
  header.wire_dtype = kernels::DType::kBF16;
  header.sequences = {
      {7, 10, 2, ReturnRows::kLast}, {8, 0, 1, ReturnRows::kNone}, {9, 1, 3, ReturnRows::kAll}};
  return header;
}

TEST(WireMessagesTest, AHeaderSurvivesTheRoundTrip) {
  v1::StepHeader message;
  StepHeader header = Header();
  header.capture_layers = true;
  ToWire(header, message);
  ASSERT_OK_AND_ASSIGN(const StepHeader back, FromWire(message));
  EXPECT_EQ(back.step_id, 5);
  EXPECT_EQ(back.expert.ToString(), "math@3");
  EXPECT_TRUE(back.layers == header.layers);
  EXPECT_EQ(back.hidden_size, 2);
  EXPECT_EQ(back.wire_dtype, kernels::DType::kBF16);
  EXPECT_TRUE(back.capture_layers);
  ASSERT_EQ(back.sequences.size(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(back.sequences[i].sequence_id, header.sequences[i].sequence_id);
    EXPECT_EQ(back.sequences[i].first_position, header.sequences[i].first_position);
    EXPECT_EQ(back.sequences[i].row_count, header.sequences[i].row_count);
    EXPECT_EQ(back.sequences[i].return_rows, header.sequences[i].return_rows);
  }
}

TEST(WireMessagesTest, RefusesEnumValuesItDoesNotKnow) {
  v1::StepHeader message;
  ToWire(Header(), message);
  message.set_wire_dtype(static_cast<v1::WireDtype>(9));
  EXPECT_THAT(FromWire(message),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("wire_dtype: expected f32 (1) or bf16 (2), found 9")));
  ToWire(Header(), message);
  message.set_wire_dtype(v1::WIRE_DTYPE_F32);
  message.mutable_sequences(1)->set_return_rows(v1::RETURN_ROWS_UNSPECIFIED);
  EXPECT_THAT(FromWire(message),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("return_rows")));
}

TEST(WireMessagesTest, AResultSurvivesTheRoundTrip) {
  SwapResult result;
  result.rows = {1, 2, 3, 4, 5, 6, 7, 8};
  result.expert_time = absl::Microseconds(12);
  v1::SwapReply message;
  ToWire(Header(), std::move(result), message);
  EXPECT_EQ(message.step_id(), 5);
  EXPECT_EQ(message.rows().size(), 16);
  ASSERT_OK_AND_ASSIGN(const SwapResult back, FromWire(message, Header()));
  EXPECT_THAT(back.rows, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(back.captured, IsEmpty());
  EXPECT_EQ(back.expert_time, absl::Microseconds(12));
}

TEST(WireMessagesTest, AnErrorTravelsAsCodeAndMessage) {
  v1::SwapReply message;
  ToWire(Header(), absl::NotFoundError("no math@3"), message);
  EXPECT_THAT(FromWire(message, Header()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no math@3")));
  message.set_code(77);
  EXPECT_THAT(FromWire(message, Header()), StatusIs(absl::StatusCode::kUnknown));
  message.set_code(-1);
  EXPECT_THAT(FromWire(message, Header()), StatusIs(absl::StatusCode::kUnknown));
}

TEST(WireMessagesTest, LongMessagesAreCut) {
  v1::SwapReply message;
  ToWire(Header(), absl::InternalError(std::string(100000, 'x')), message);
  EXPECT_LT(message.message().size(), 5000);
  EXPECT_LT(StatusFromWire(13, std::string(100000, 'x')).message().size(), 5000);
  EXPECT_OK(StatusFromWire(0, "ignored"));
}

TEST(WireMessagesTest, ResultsOfTheWrongSizeAreErrorsOnBothSides) {
  SwapResult result;
  result.rows = {1, 2, 3};
  v1::SwapReply message;
  ToWire(Header(), result, message);
  EXPECT_THAT(FromWire(message, Header()), StatusIs(absl::StatusCode::kInternal));
  message.Clear();
  message.set_step_id(5);
  message.set_rows("odd");
  EXPECT_THAT(FromWire(message, Header()),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("the answer to step 5: rows: expected 16 bytes")));
  message.set_rows(std::string(16, '\0'));
  message.set_captured("1234");
  EXPECT_THAT(FromWire(message, Header()), StatusIs(absl::StatusCode::kInternal));
}

TEST(WireMessagesTest, BoundsWhatAMessageMustCarryEachWay) {
  StepHeader header = Header();
  EXPECT_OK(CheckFitsMessage(header));
  header.hidden_size = 8192;
  header.sequences = {{1, 0, 4096, ReturnRows::kLast}};
  EXPECT_THAT(CheckFitsMessage(header),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sends 67108864 bytes")));
  header.sequences = {{1, 0, 1024, ReturnRows::kLast}};
  EXPECT_OK(CheckFitsMessage(header));
  header.capture_layers = true;
  EXPECT_THAT(CheckFitsMessage(header),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fewer rows")));
}

TEST(WireMessagesTest, ADispatchSurvivesTheRoundTrip) {
  const StepHeader header = MakeDispatch(7, {{0, 300}, {5}, {1, 2, 3}}, 2, /*combine=*/true);
  v1::StepHeader message;
  ToWire(header, message);
  v1::StepHeader parsed;
  ASSERT_TRUE(parsed.ParseFromString(message.SerializeAsString()));
  ASSERT_OK_AND_ASSIGN(const StepHeader back, FromWire(parsed));
  EXPECT_EQ(back.step_id, 7);
  EXPECT_EQ(back.hidden_size, 2);
  ASSERT_TRUE(back.ffn.has_value());
  EXPECT_EQ(back.ffn->layer, 3);
  EXPECT_TRUE(back.ffn->combine);
  EXPECT_EQ(back.ffn->offsets, header.ffn->offsets);
  EXPECT_EQ(back.ffn->experts, header.ffn->experts);
  EXPECT_EQ(back.ffn->weights, header.ffn->weights);
  EXPECT_OK(Validate(back, 2));
}

TEST(WireMessagesTest, CountsThatDoNotFitTheExpertsAreRefusedBeforeTheyOverflow) {
  v1::StepHeader message;
  ToWire(MakeDispatch(7, {{0, 3}, {5}}, 2), message);
  for (const int32_t count : {0, -4, 2, 0x7fffffff}) {
    message.mutable_ffn()->set_counts(1, count);
    EXPECT_THAT(FromWire(message), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("dispatch row 1: expected 1 to 1 experts")));
  }
  message.mutable_ffn()->clear_counts();
  ASSERT_OK_AND_ASSIGN(const StepHeader empty, FromWire(message));
  EXPECT_THAT(Validate(empty, 2), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(WireMessagesTest, RowsForEachExpertOfADispatchMustFitToo) {
  const std::vector<std::vector<int32_t>> experts(1024, {0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_THAT(CheckFitsMessage(MakeDispatch(1, experts, 2048)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("asks for 67108864")));
  EXPECT_OK(CheckFitsMessage(MakeDispatch(1, experts, 2048, /*combine=*/true)));
}

TEST(WireMessagesTest, RowsOfADeviceAreLeftToWhoeverCarriesThem) {
  testing::TaggedDevice device;
  ASSERT_OK_AND_ASSIGN(const auto memory, RowMemory::Create(&device, 4096));
  ASSERT_OK_AND_ASSIGN(const auto fresh, memory->Take(2, 4, kernels::DType::kF32));
  const StepHeader header = MakeHeader(1, {{1, 0, 2, ReturnRows::kAll}}, 4);
  SwapResult result;
  result.device_rows = fresh.block;
  v1::SwapReply reply;
  ToWire(header, result, reply);
  EXPECT_EQ(reply.code(), 0);
  EXPECT_TRUE(reply.rows().empty());
  ASSERT_OK_AND_ASSIGN(const SwapResult back, FromWire(reply, header, fresh.block));
  EXPECT_TRUE(back.device_rows.on_device());
  EXPECT_TRUE(back.rows.empty());
  EXPECT_EQ(back.row_values(), 8);
  // Without them the reply is short of its rows.
  EXPECT_THAT(FromWire(reply, header).status(), StatusIs(absl::StatusCode::kInternal));
  ToWire(MakeHeader(2, {{1, 0, 3, ReturnRows::kAll}}, 4), result, reply);
  EXPECT_EQ(reply.code(), static_cast<int>(absl::StatusCode::kInternal));
}

}  // namespace
}  // namespace ccoe::exchange
