#include "runtime/exchange/grpc/wire_messages.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/row_codec.h"
#include "runtime/exchange/swap_size.h"

namespace ccoe::exchange {
namespace {

// Messages of a status are for people; a peer cannot make them long.
constexpr size_t kMaxTextBytes = 2048;

int64_t CapturedRows(const StepHeader& header) {
  return header.capture_layers ? header.layers.size() * header.rows() : 0;
}

v1::ReturnRows ToWire(ReturnRows rows) {
  switch (rows) {
    case ReturnRows::kNone:
      return v1::RETURN_ROWS_NONE;
    case ReturnRows::kLast:
      return v1::RETURN_ROWS_LAST;
    case ReturnRows::kAll:
      return v1::RETURN_ROWS_ALL;
  }
  return v1::RETURN_ROWS_UNSPECIFIED;
}

absl::StatusOr<ReturnRows> FromWire(v1::ReturnRows rows) {
  switch (rows) {
    case v1::RETURN_ROWS_NONE:
      return ReturnRows::kNone;
    case v1::RETURN_ROWS_LAST:
      return ReturnRows::kLast;
    case v1::RETURN_ROWS_ALL:
      return ReturnRows::kAll;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "return_rows: expected none (1), last (2) or all (3), found ", static_cast<int>(rows)));
  }
}

void ToWire(const FfnDispatch& ffn, v1::FfnDispatch& message) {
  message.set_layer(ffn.layer);
  message.set_combine(ffn.combine);
  message.mutable_counts()->Reserve(static_cast<int>(ffn.rows()));
  for (int64_t row = 0; row < ffn.rows(); ++row) {
    message.add_counts(ffn.offsets[row + 1] - ffn.offsets[row]);
  }
  message.mutable_experts()->Add(ffn.experts.begin(), ffn.experts.end());
  message.mutable_weights()->Add(ffn.weights.begin(), ffn.weights.end());
}

absl::StatusOr<FfnDispatch> FromWire(const v1::FfnDispatch& message) {
  FfnDispatch ffn;
  ffn.layer = message.layer();
  ffn.combine = message.combine();
  ffn.offsets.reserve(message.counts_size() + 1);
  ffn.offsets.push_back(0);
  for (const int32_t count : message.counts()) {
    // No row has more than all experts have, which also keeps the sum from overflowing.
    const int32_t left = message.experts_size() - ffn.offsets.back();
    if (count < 1 || count > left) {
      return absl::InvalidArgumentError(absl::StrCat(
          "dispatch row ", ffn.rows(), ": expected 1 to ", left,
          " experts, as many as are left of ", message.experts_size(), ", found ", count));
    }
    ffn.offsets.push_back(ffn.offsets.back() + count);
  }
  ffn.experts.assign(message.experts().begin(), message.experts().end());
  ffn.weights.assign(message.weights().begin(), message.weights().end());
  return ffn;
}

}  // namespace

absl::Status CheckFitsMessage(const StepHeader& header) {
  const SwapBytes bytes = SizeOf(header);
  if (bytes.sent <= kMaxSwapBytes && bytes.returned <= kMaxSwapBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "step ", header.step_id, " sends ", bytes.sent, " bytes of rows and asks for ",
      bytes.returned, ": expected at most ", kMaxSwapBytes, " each way; send fewer rows a step"));
}

size_t SentRowBytes(const StepHeader& header) {
  return static_cast<size_t>(header.rows() * header.hidden_size) *
         kernels::DTypeBytes(header.wire_dtype);
}

size_t ReturnedRowBytes(const StepHeader& header) {
  return static_cast<size_t>(header.returned_rows() * header.hidden_size) *
         kernels::DTypeBytes(header.wire_dtype);
}

v1::WireDtype ToWire(kernels::DType dtype) {
  return dtype == kernels::DType::kBF16 ? v1::WIRE_DTYPE_BF16 : v1::WIRE_DTYPE_F32;
}

absl::StatusOr<kernels::DType> FromWire(v1::WireDtype dtype) {
  if (dtype == v1::WIRE_DTYPE_F32) return kernels::DType::kF32;
  if (dtype == v1::WIRE_DTYPE_BF16) return kernels::DType::kBF16;
  return absl::InvalidArgumentError(
      absl::StrCat("wire_dtype: expected f32 (1) or bf16 (2), found ", static_cast<int>(dtype)));
}

void ToWire(const StepHeader& header, v1::StepHeader& message) {
  message.set_step_id(header.step_id);
  message.set_hidden_size(header.hidden_size);
  message.set_wire_dtype(ToWire(header.wire_dtype));
  if (header.ffn.has_value()) return ToWire(*header.ffn, *message.mutable_ffn());
  message.mutable_expert()->set_name(header.expert.name);
  message.mutable_expert()->set_version(header.expert.version);
  message.set_first_layer(header.layers.first);
  message.set_last_layer(header.layers.last);
  message.set_capture_layers(header.capture_layers);
  for (const SwapSequence& sequence : header.sequences) {
    v1::SwapSequence& added = *message.add_sequences();
    added.set_sequence_id(sequence.sequence_id);
    added.set_first_position(sequence.first_position);
    added.set_row_count(sequence.row_count);
    added.set_return_rows(ToWire(sequence.return_rows));
  }
}

absl::StatusOr<StepHeader> FromWire(const v1::StepHeader& message) {
  StepHeader header;
  header.step_id = message.step_id();
  header.expert = {message.expert().name(), message.expert().version()};
  header.layers = {message.first_layer(), message.last_layer()};
  header.hidden_size = message.hidden_size();
  CCOE_ASSIGN_OR_RETURN(header.wire_dtype, FromWire(message.wire_dtype()));
  header.capture_layers = message.capture_layers();
  if (message.has_ffn()) {
    CCOE_ASSIGN_OR_RETURN(header.ffn, FromWire(message.ffn()));
  }
  header.sequences.reserve(message.sequences_size());
  for (const v1::SwapSequence& sequence : message.sequences()) {
    CCOE_ASSIGN_OR_RETURN(const ReturnRows return_rows, FromWire(sequence.return_rows()));
    header.sequences.push_back(
        {sequence.sequence_id(), sequence.first_position(), sequence.row_count(), return_rows});
  }
  return header;
}

void ToWire(const StepHeader& header, const absl::StatusOr<SwapResult>& result,
            v1::SwapReply& message) {
  absl::Status status = result.status();
  const int64_t rows = header.returned_rows(), captured = CapturedRows(header);
  if (result.ok() &&
      (result->row_values() != rows * header.hidden_size ||
       static_cast<int64_t>(result->captured.size()) != captured * header.hidden_size)) {
    status = absl::InternalError(absl::StrCat("step ", header.step_id, ": expected ", rows,
                                              " rows and ", captured, " captured ones of ",
                                              header.hidden_size, ", found ", result->row_values(),
                                              " and ", result->captured.size(), " values"));
  }
  message.set_step_id(header.step_id);
  message.set_code(static_cast<int>(status.code()));
  if (!status.ok()) {
    message.set_message(std::string(status.message().substr(0, kMaxTextBytes)));
    return;
  }
  if (!result->device_rows.on_device()) {
    EncodeRows(kernels::F32Matrix(result->rows.data(), rows, header.hidden_size), header.wire_dtype,
               *message.mutable_rows());
  }
  EncodeRows(kernels::F32Matrix(result->captured.data(), captured, header.hidden_size),
             kernels::DType::kF32, *message.mutable_captured());
  message.set_expert_time_nanos(absl::ToInt64Nanoseconds(result->expert_time));
}

absl::StatusOr<SwapResult> FromWire(const v1::SwapReply& message, const StepHeader& header,
                                    RowBlock beside) {
  if (message.code() != 0) return StatusFromWire(message.code(), message.message());
  SwapResult result;
  absl::StatusOr<std::vector<float>> rows =
      DecodeRows(message.rows(), beside.on_device() ? 0 : header.returned_rows(),
                 header.hidden_size, header.wire_dtype);
  absl::StatusOr<std::vector<float>> captured = DecodeRows(
      message.captured(), CapturedRows(header), header.hidden_size, kernels::DType::kF32);
  for (const absl::Status& status : {rows.status(), captured.status()}) {
    if (!status.ok()) {
      return absl::InternalError(
          absl::StrCat("the answer to step ", header.step_id, ": ", status.message()));
    }
  }
  result.rows = *std::move(rows);
  result.device_rows = std::move(beside);
  result.captured = *std::move(captured);
  result.expert_time = absl::Nanoseconds(message.expert_time_nanos());
  return result;
}

absl::Status StatusFromWire(int code, absl::string_view text) {
  if (code == 0) return absl::OkStatus();
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                      text.substr(0, kMaxTextBytes));
}

}  // namespace ccoe::exchange
