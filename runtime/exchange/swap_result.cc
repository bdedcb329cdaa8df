// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/swap_result.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace ccoe::exchange {
namespace {

constexpr char kReasonPayload[] = "ccoe/swap-reason";

absl::StatusCode CodeOf(SwapReason reason) {
  switch (reason) {
    case SwapReason::kNone:
      return absl::StatusCode::kOk;
    case SwapReason::kInvalid:
      return absl::StatusCode::kInvalidArgument;
    case SwapReason::kUnknownExpert:
      return absl::StatusCode::kNotFound;
    case SwapReason::kLinkFull:
    case SwapReason::kQueueFull:
    case SwapReason::kNoPages:
    case SwapReason::kTooLong:
      return absl::StatusCode::kResourceExhausted;
    case SwapReason::kKvLost:
      return absl::StatusCode::kFailedPrecondition;
    case SwapReason::kCancelled:
      return absl::StatusCode::kCancelled;
    case SwapReason::kDeviceFailed:
    case SwapReason::kShuttingDown:
    case SwapReason::kLinkBroken:
      return absl::StatusCode::kUnavailable;
    case SwapReason::kInternal:
      break;
  }
  return absl::StatusCode::kInternal;
}

}  // namespace

absl::string_view SwapReasonName(SwapReason reason) {
  static constexpr absl::string_view kNames[] = {
      "computed",      "internal error", "invalid",     "unknown expert", "link full",
      "queue full",    "no KV pages",    "KV lost",     "too long",       "cancelled",
      "device failed", "shutting down",  "link broken",
  };
  return kNames[static_cast<size_t>(reason)];
}

absl::Status SwapError(SwapReason reason, absl::string_view message) {
  absl::Status status(CodeOf(reason), message);
  status.SetPayload(kReasonPayload, absl::Cord(std::string(1, static_cast<char>(reason))));
  return status;
}

SwapReason ReasonOf(const absl::Status& status) {
  if (status.ok()) return SwapReason::kNone;
  const auto payload = status.GetPayload(kReasonPayload);
  if (!payload.has_value() || payload->empty()) return SwapReason::kInternal;
  return static_cast<SwapReason>(std::string(*payload)[0]);
}

int64_t ReturnedRows(const SwapHeader& header, const SwapResult& result) {
  const LayerSwap* const layer = header.layer();
  if (layer == nullptr || result.verdicts.empty()) return header.returned_rows();
  int64_t rows = 0;
  for (size_t i = 0; i < layer->sequences.size(); ++i) {
    if (result.computed(i)) rows += layer->sequences[i].returned();
  }
  return rows;
}

absl::Status CheckResult(const SwapHeader& header, const SwapResult& result) {
  const size_t sequences = header.layer() == nullptr ? 0 : header.layer()->sequences.size();
  if (!result.verdicts.empty() && result.verdicts.size() != sequences) {
    return SwapError(SwapReason::kInternal,
                     absl::StrCat("answer to swap ", header.id, ": expected ", sequences,
                                  " verdicts or none, found ", result.verdicts.size()));
  }
  const int64_t rows = ReturnedRows(header, result) * header.format.hidden_size;
  const int64_t captured = header.captured_rows() * header.format.hidden_size;
  if (result.row_values() == rows && static_cast<int64_t>(result.captured.size()) == captured) {
    return absl::OkStatus();
  }
  return SwapError(
      SwapReason::kInternal,
      absl::StrCat("answer to swap ", header.id, ": expected ", rows, " values and ", captured,
                   " captured ones, found ", result.row_values(), " and ", result.captured.size()));
}

}  // namespace ccoe::exchange
