// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/activation_link.h"

#include "absl/strings/str_cat.h"

namespace ccoe::exchange {

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
