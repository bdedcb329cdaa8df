// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/wire_messages.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/row_block.h"

namespace ccoe::exchange {
namespace {

// Messages of a status are for people; a peer cannot make them long.
constexpr size_t kMaxTextBytes = 2048;
constexpr size_t kMaxComputingBytes = 512;

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
      return SwapError(SwapReason::kInvalid,
                       absl::StrCat("return_rows: expected none (1), last (2) or all (3), found ",
                                    static_cast<int>(rows)));
  }
}

void ToWire(const LayerSwap& layer, v1::LayerRows& message) {
  message.mutable_expert()->set_name(layer.expert.name);
  message.mutable_expert()->set_version(layer.expert.version);
  message.set_first_layer(layer.layers.first);
  message.set_last_layer(layer.layers.last);
  message.set_capture_layers(layer.capture_layers);
  message.mutable_sequences()->Reserve(static_cast<int>(layer.sequences.size()));
  for (const SwapSequence& sequence : layer.sequences) {
    v1::SwapSequence& added = *message.add_sequences();
    added.set_sequence_id(sequence.sequence_id);
    added.set_first_position(sequence.first_position);
    added.set_row_count(sequence.row_count);
    added.set_return_rows(ToWire(sequence.return_rows));
  }
}

absl::StatusOr<LayerSwap> FromWire(const v1::LayerRows& message) {
  LayerSwap layer;
  layer.expert = {message.expert().name(), message.expert().version()};
  layer.layers = {message.first_layer(), message.last_layer()};
  layer.capture_layers = message.capture_layers();
  layer.sequences.reserve(message.sequences_size());
  for (const v1::SwapSequence& sequence : message.sequences()) {
    CCOE_ASSIGN_OR_RETURN(const ReturnRows return_rows, FromWire(sequence.return_rows()));
    layer.sequences.push_back(
        {sequence.sequence_id(), sequence.first_position(), sequence.row_count(), return_rows});
  }
  return layer;
}

void ToWire(const FfnSwap& ffn, v1::FfnRows& message) {
  message.set_layer(ffn.layer);
  message.set_combine(ffn.combine);
  message.mutable_counts()->Reserve(static_cast<int>(ffn.rows()));
  for (int64_t row = 0; row < ffn.rows(); ++row) {
    message.add_counts(ffn.offsets[row + 1] - ffn.offsets[row]);
  }
  message.mutable_experts()->Add(ffn.experts.begin(), ffn.experts.end());
  message.mutable_weights()->Add(ffn.weights.begin(), ffn.weights.end());
}

absl::StatusOr<FfnSwap> FromWire(const v1::FfnRows& message) {
  FfnSwap ffn;
  ffn.layer = message.layer();
  ffn.combine = message.combine();
  ffn.offsets.reserve(message.counts_size() + 1);
  ffn.offsets.push_back(0);
  for (const int32_t count : message.counts()) {
    // No row has more than all experts have, which also keeps the sum from overflowing.
    const int32_t left = message.experts_size() - ffn.offsets.back();
    if (count < 1 || count > left) {
      return SwapError(SwapReason::kInvalid,
                       absl::StrCat("dispatch row ", ffn.rows(), ": expected 1 to ", left,
                                    " experts, as many as are left of ", message.experts_size(),
                                    ", found ", count));
    }
    ffn.offsets.push_back(ffn.offsets.back() + count);
  }
  ffn.experts.assign(message.experts().begin(), message.experts().end());
  ffn.weights.assign(message.weights().begin(), message.weights().end());
  return ffn;
}

v1::SwapReason ToWire(SwapReason reason) { return static_cast<v1::SwapReason>(reason); }

void AddVerdicts(const SwapResult& result, v1::SwapAnswer& message) {
  for (size_t i = 0; i < result.verdicts.size(); ++i) {
    if (result.computed(i)) continue;
    v1::Verdict& verdict = *message.add_verdicts();
    verdict.set_index(static_cast<int32_t>(i));
    verdict.set_reason(ToWire(ReasonOf(result.verdicts[i])));
    verdict.set_message(TextOf(result.verdicts[i].message()));
  }
}

absl::StatusOr<std::vector<absl::Status>> VerdictsOf(const v1::SwapAnswer& message,
                                                     const SwapHeader& header) {
  std::vector<absl::Status> verdicts;
  if (message.verdicts().empty()) return verdicts;
  const size_t sequences = header.layer() == nullptr ? 0 : header.layer()->sequences.size();
  verdicts.resize(sequences);
  int64_t last = -1;
  for (const v1::Verdict& verdict : message.verdicts()) {
    if (verdict.index() <= last || verdict.index() >= static_cast<int64_t>(sequences) ||
        verdict.reason() == v1::SWAP_REASON_NONE) {
      return absl::InternalError(
          absl::StrCat("verdict: expected one with a reason, of a sequence from ", last + 1, " to ",
                       static_cast<int64_t>(sequences) - 1, ", found ",
                       static_cast<int>(verdict.reason()), " of ", verdict.index()));
    }
    last = verdict.index();
    verdicts[last] = SwapError(exchange::FromWire(verdict.reason()), TextOf(verdict.message()));
  }
  return verdicts;
}

absl::StatusOr<SwapResult> DecodeResult(const v1::SwapAnswer& message, const SwapHeader& header,
                                        bool rows_beside) {
  SwapResult result;
  CCOE_ASSIGN_OR_RETURN(result.verdicts, VerdictsOf(message, header));
  const int64_t rows = rows_beside ? 0 : ReturnedRows(header, result);
  CCOE_ASSIGN_OR_RETURN(result.rows, DecodeRows(message.rows(), rows, header.format.hidden_size,
                                                header.format.dtype));
  CCOE_ASSIGN_OR_RETURN(result.captured,
                        DecodeRows(message.captured(), header.captured_rows(),
                                   header.format.hidden_size, kernels::DType::kF32));
  result.expert_time = absl::Nanoseconds(message.expert_time_nanos());
  return result;
}

// Could forge a line of a log, or hide what is in one.
bool IsInvisible(utf8proc_int32_t code) {
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return true;
    default:
      return false;
  }
}

}  // namespace

absl::Status CheckFitsMessage(const SwapHeader& header) {
  const SwapBytes bytes = SizeOf(header);
  if (bytes.sent <= kMaxEnvelopeBytes && bytes.returned <= kMaxEnvelopeBytes) {
    return absl::OkStatus();
  }
  return SwapError(
      SwapReason::kInvalid,
      absl::StrCat("swap ", header.id, " sends ", bytes.sent, " bytes of rows and asks for ",
                   bytes.returned, ": expected at most ", kMaxEnvelopeBytes,
                   " each way; send fewer rows a step"));
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

void ToWire(const Envelope& envelope, v1::Envelope& message, std::vector<std::string>* beside) {
  const RowFormat& format = envelope.swaps.front().header.format;
  message.set_step_id(envelope.step_id);
  message.set_hidden_size(format.hidden_size);
  message.set_wire_dtype(ToWire(format.dtype));
  if (beside != nullptr) beside->resize(envelope.swaps.size());
  for (size_t i = 0; i < envelope.swaps.size(); ++i) {
    const Swap& swap = envelope.swaps[i];
    v1::SwapRequest& request = *message.add_swaps();
    request.set_id(swap.header.id);
    if (const LayerSwap* layer = swap.header.layer()) ToWire(*layer, *request.mutable_layer());
    if (const FfnSwap* ffn = swap.header.ffn()) ToWire(*ffn, *request.mutable_ffn());
    if (swap.rows.block.on_device()) continue;
    EncodeRows(swap.rows.block.Rows(format.hidden_size), format.dtype,
               beside == nullptr ? *request.mutable_rows() : (*beside)[i], swap.rows.index);
  }
}

absl::StatusOr<RowFormat> FormatOf(const v1::Envelope& message) {
  CCOE_ASSIGN_OR_RETURN(const kernels::DType dtype, FromWire(message.wire_dtype()));
  return RowFormat{message.hidden_size(), dtype};
}

absl::StatusOr<SwapHeader> FromWire(const v1::SwapRequest& message, const RowFormat& format) {
  SwapHeader header;
  header.id = message.id();
  header.format = format;
  switch (message.work_case()) {
    case v1::SwapRequest::kLayer: {
      CCOE_ASSIGN_OR_RETURN(header.work, FromWire(message.layer()));
      return header;
    }
    case v1::SwapRequest::kFfn: {
      CCOE_ASSIGN_OR_RETURN(header.work, FromWire(message.ffn()));
      return header;
    }
    default:
      return SwapError(SwapReason::kInvalid, "work: expected layer or ffn, found neither");
  }
}

void ToWire(const SwapHeader& header, const absl::StatusOr<SwapResult>& result,
            v1::SwapAnswer& message) {
  message.set_swap_id(header.id);
  const absl::Status status = result.ok() ? CheckResult(header, *result) : result.status();
  if (!status.ok()) {
    message.set_reason(ToWire(ReasonOf(status)));
    message.set_message(TextOf(status.message()));
    return;
  }
  AddVerdicts(*result, message);
  const int64_t hidden = header.format.hidden_size;
  if (!result->device_rows.on_device()) {
    EncodeRows(kernels::F32Matrix(result->rows.data(), ReturnedRows(header, *result), hidden),
               header.format.dtype, *message.mutable_rows());
  }
  if (!result->captured.empty()) {
    EncodeRows(kernels::F32Matrix(result->captured.data(), header.captured_rows(), hidden),
               kernels::DType::kF32, *message.mutable_captured());
  }
  message.set_expert_time_nanos(absl::ToInt64Nanoseconds(result->expert_time));
}

absl::StatusOr<SwapResult> FromWire(const v1::SwapAnswer& message, const SwapHeader& header,
                                    bool rows_beside) {
  if (message.reason() != v1::SWAP_REASON_NONE) {
    return SwapError(FromWire(message.reason()), TextOf(message.message()));
  }
  absl::StatusOr<SwapResult> result = DecodeResult(message, header, rows_beside);
  if (result.ok()) return result;
  return Annotate(result.status(), absl::StrCat("the answer to swap ", header.id));
}

v1::HeartbeatReply ToWire(uint64_t number, const HostProgress& progress, uint64_t taken_in) {
  v1::HeartbeatReply reply;
  reply.set_number(number);
  reply.set_passes(progress.passes);
  reply.set_computing(progress.computing.substr(0, kMaxComputingBytes));
  reply.set_since_nanos(absl::ToInt64Nanoseconds(progress.since));
  reply.set_last_swap_id(taken_in);
  return reply;
}

HostProgress ProgressOf(const v1::HeartbeatReply& reply) {
  return {reply.passes(), TextOf(reply.computing().substr(0, kMaxComputingBytes)),
          absl::Nanoseconds(std::max<int64_t>(reply.since_nanos(), 0))};
}

SwapReason FromWire(v1::SwapReason reason) {
  return v1::SwapReason_IsValid(reason) ? static_cast<SwapReason>(reason) : SwapReason::kInternal;
}

std::string TextOf(absl::string_view text) {
  std::string clean;
  while (!text.empty() && clean.size() < kMaxTextBytes) {
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
    utf8proc_int32_t code = -1;
    const auto length = utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size()), &code);
    const size_t taken = length > 0 ? static_cast<size_t>(length) : 1;
    if (length <= 0) {
      clean += '?';
    } else if (IsInvisible(code)) {
      clean += ' ';
    } else {
      if (clean.size() + taken > kMaxTextBytes) break;
      clean.append(text.data(), taken);
    }
    text.remove_prefix(taken);
  }
  return clean;
}

}  // namespace ccoe::exchange
