#include "runtime/exchange/step_header.h"

#include <cmath>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::exchange {
namespace {

absl::Status Wrong(absl::string_view field, absl::string_view expected, absl::string_view found) {
  return absl::InvalidArgumentError(
      absl::StrCat("step header: ", field, ": expected ", expected, ", found ", found));
}

absl::Status ValidateSequence(const SwapSequence& sequence, const StepLimits& limits) {
  const std::string field = absl::StrCat("sequence ", sequence.sequence_id);
  if (sequence.row_count <= 0 || sequence.row_count > limits.max_rows) {
    return Wrong(absl::StrCat(field, " row_count"), absl::StrCat("1 to ", limits.max_rows),
                 absl::StrCat(sequence.row_count));
  }
  const int64_t last_start = limits.max_position - sequence.row_count;
  if (sequence.first_position < 0 || sequence.first_position > last_start) {
    return Wrong(absl::StrCat(field, " first_position"),
                 absl::StrCat("0 to ", last_start, " for ", sequence.row_count, " rows of at most ",
                              limits.max_position, " positions"),
                 absl::StrCat(sequence.first_position));
  }
  if (sequence.return_rows > ReturnRows::kAll) {
    return Wrong(absl::StrCat(field, " return_rows"), "none, last or all",
                 absl::StrCat(static_cast<int>(sequence.return_rows)));
  }
  return absl::OkStatus();
}

absl::Status ValidateWidth(const StepHeader& header, int64_t hidden_size) {
  if (header.hidden_size != hidden_size) {
    return Wrong("hidden_size", absl::StrCat(hidden_size), absl::StrCat(header.hidden_size));
  }
  if (header.wire_dtype != kernels::DType::kF32 && header.wire_dtype != kernels::DType::kBF16) {
    return Wrong("wire_dtype", "f32 or bf16", kernels::DTypeName(header.wire_dtype));
  }
  return absl::OkStatus();
}

absl::Status ValidateExpert(const StepHeader& header) {
  if (header.expert.empty()) return Wrong("expert", "a name", "none");
  if (header.expert.version < 1) {
    return Wrong("expert version", "1 or more", absl::StrCat(header.expert.version));
  }
  if (header.layers.first < 0 || header.layers.empty()) {
    return Wrong("layers", "0 <= first < last",
                 absl::StrCat("[", header.layers.first, ", ", header.layers.last, ")"));
  }
  return absl::OkStatus();
}

absl::Status ValidateSequences(const StepHeader& header, const StepLimits& limits) {
  const int64_t count = static_cast<int64_t>(header.sequences.size());
  if (count == 0 || count > limits.max_sequences) {
    return Wrong("sequences", absl::StrCat("1 to ", limits.max_sequences), absl::StrCat(count));
  }
  absl::flat_hash_set<uint64_t> seen;
  seen.reserve(header.sequences.size());
  int64_t rows = 0;
  for (const SwapSequence& sequence : header.sequences) {
    CCOE_RETURN_IF_ERROR(ValidateSequence(sequence, limits));
    if (!seen.insert(sequence.sequence_id).second) {
      return Wrong("sequences", "each sequence once",
                   absl::StrCat("sequence ", sequence.sequence_id, " twice"));
    }
    rows += sequence.row_count;  // each is at most max_rows, so the sum cannot overflow
    if (rows > limits.max_rows) {
      return Wrong("rows", absl::StrCat("at most ", limits.max_rows), absl::StrCat(rows));
    }
  }
  return absl::OkStatus();
}

// Offsets first: what the rest is read by.
absl::Status ValidateOffsets(const FfnDispatch& ffn, const StepLimits& limits) {
  if (ffn.rows() < 1 || ffn.rows() > limits.max_rows) {
    return Wrong("dispatch rows", absl::StrCat("1 to ", limits.max_rows), absl::StrCat(ffn.rows()));
  }
  if (ffn.offsets.front() != 0) {
    return Wrong("dispatch offsets", "0 first", absl::StrCat(ffn.offsets.front()));
  }
  for (int64_t row = 0; row < ffn.rows(); ++row) {
    const int64_t count = int64_t{ffn.offsets[row + 1]} - ffn.offsets[row];
    if (count < 1 || count > limits.max_experts_per_row) {
      return Wrong(absl::StrCat("dispatch row ", row),
                   absl::StrCat("1 to ", limits.max_experts_per_row, " experts"),
                   absl::StrCat(count));
    }
  }
  if (ffn.offsets.back() != ffn.pairs() || ffn.weights.size() != ffn.experts.size()) {
    return Wrong("dispatch", absl::StrCat(ffn.offsets.back(), " experts and as many weights"),
                 absl::StrCat(ffn.experts.size(), " and ", ffn.weights.size()));
  }
  return absl::OkStatus();
}

absl::Status ValidateDispatch(const StepHeader& header, const StepLimits& limits) {
  const FfnDispatch& ffn = *header.ffn;
  if (!header.sequences.empty() || header.capture_layers) {
    return Wrong("dispatch", "no sequences and no capture_layers beside it",
                 absl::StrCat(header.sequences.size(), " sequences",
                              header.capture_layers ? " and capture_layers" : ""));
  }
  if (ffn.layer < 0) return Wrong("dispatch layer", "0 or more", absl::StrCat(ffn.layer));
  CCOE_RETURN_IF_ERROR(ValidateOffsets(ffn, limits));
  for (int64_t row = 0; row < ffn.rows(); ++row) {
    int32_t last = -1;
    for (int32_t pair = ffn.offsets[row]; pair < ffn.offsets[row + 1]; ++pair) {
      if (ffn.experts[pair] <= last) {
        return Wrong(absl::StrCat("dispatch row ", row), "experts that rise from 0",
                     absl::StrCat(ffn.experts[pair], " after ", last));
      }
      last = ffn.experts[pair];
      if (!std::isfinite(ffn.weights[pair])) {
        return Wrong(absl::StrCat("dispatch row ", row, " expert ", last), "a finite weight",
                     absl::StrCat(ffn.weights[pair]));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

int64_t StepHeader::rows() const {
  if (ffn.has_value()) return ffn->rows();
  int64_t rows = 0;
  for (const SwapSequence& sequence : sequences) rows += sequence.row_count;
  return rows;
}

int64_t StepHeader::returned_rows() const {
  if (ffn.has_value()) return ffn->returned();
  int64_t rows = 0;
  for (const SwapSequence& sequence : sequences) rows += sequence.returned();
  return rows;
}

absl::Status Validate(const StepHeader& header, int64_t hidden_size, const StepLimits& limits) {
  CCOE_RETURN_IF_ERROR(ValidateWidth(header, hidden_size));
  if (header.ffn.has_value()) return ValidateDispatch(header, limits);
  CCOE_RETURN_IF_ERROR(ValidateExpert(header));
  return ValidateSequences(header, limits);
}

}  // namespace ccoe::exchange
