// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/envelope.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/swap_result.h"

namespace ccoe::exchange {
namespace {

// Of an FFN swap, at most: a row's count, and a pair's expert and weight.
constexpr int64_t kCountBytes = 5;
constexpr int64_t kPairBytes = 5 + sizeof(float);

absl::Status Wrong(absl::string_view field, absl::string_view expected, absl::string_view found) {
  return SwapError(SwapReason::kInvalid,
                   absl::StrCat(field, ": expected ", expected, ", found ", found));
}

absl::Status ValidateSequence(const SwapSequence& sequence, const EnvelopeLimits& limits) {
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

absl::Status ValidateFormat(const RowFormat& format, int64_t hidden_size) {
  if (format.hidden_size != hidden_size) {
    return Wrong("hidden_size", absl::StrCat(hidden_size), absl::StrCat(format.hidden_size));
  }
  if (format.dtype != kernels::DType::kF32 && format.dtype != kernels::DType::kBF16) {
    return Wrong("wire_dtype", "f32 or bf16", kernels::DTypeName(format.dtype));
  }
  return absl::OkStatus();
}

absl::Status ValidateExpert(const LayerSwap& layer) {
  if (layer.expert.empty()) return Wrong("expert", "a name", "none");
  if (layer.expert.version < 1) {
    return Wrong("expert version", "1 or more", absl::StrCat(layer.expert.version));
  }
  if (layer.layers.first < 0 || layer.layers.empty()) {
    return Wrong("layers", "0 <= first < last",
                 absl::StrCat("[", layer.layers.first, ", ", layer.layers.last, ")"));
  }
  return absl::OkStatus();
}

absl::Status ValidateSequences(const LayerSwap& layer, const EnvelopeLimits& limits) {
  const int64_t count = static_cast<int64_t>(layer.sequences.size());
  if (count == 0 || count > limits.max_sequences) {
    return Wrong("sequences", absl::StrCat("1 to ", limits.max_sequences), absl::StrCat(count));
  }
  absl::flat_hash_set<uint64_t> seen;
  seen.reserve(layer.sequences.size());
  int64_t rows = 0;
  for (const SwapSequence& sequence : layer.sequences) {
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
absl::Status ValidateOffsets(const FfnSwap& ffn, const EnvelopeLimits& limits) {
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

absl::Status ValidateFfn(const FfnSwap& ffn, const EnvelopeLimits& limits) {
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

absl::Status ValidateIndex(const SwapRows& rows, int64_t block_rows) {
  for (const int32_t row : rows.index) {
    if (row < 0 || row >= block_rows) {
      return Wrong("row index", absl::StrCat("0 to ", block_rows - 1), absl::StrCat(row));
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateRows(const Swap& swap, const RowMemory* memory) {
  const RowBlock& block = swap.rows.block;
  const RowFormat& format = swap.header.format;
  const kernels::DType dtype = block.on_device() ? format.dtype : kernels::DType::kF32;
  const int64_t whole = block.values() / format.hidden_size;
  if (block.dtype() != dtype || block.values() % format.hidden_size != 0 || block.empty() ||
      swap.rows.count(format.hidden_size) != swap.header.rows()) {
    return Wrong("rows",
                 absl::StrCat("[", swap.header.rows(), ", ", format.hidden_size, "] ",
                              kernels::DTypeName(dtype)),
                 absl::StrCat(block.values(), " values of ", kernels::DTypeName(block.dtype()),
                              swap.rows.index.empty()
                                  ? ""
                                  : absl::StrCat(", ", swap.rows.index.size(), " of them named")));
  }
  if (!block.on_device()) return ValidateIndex(swap.rows, whole);
  if (!swap.rows.index.empty()) return Wrong("rows of a device", "all of the block", "an index");
  if (block.memory() == memory) return absl::OkStatus();
  return Wrong("rows", memory == nullptr ? "host memory" : "in the link's memory of the device",
               absl::StrCat("memory of ", block.memory()->device()->Name()));
}

int64_t RowBytes(const RowFormat& format) {
  return format.hidden_size * static_cast<int64_t>(kernels::DTypeBytes(format.dtype));
}

int64_t SequencesOf(const SwapHeader& header) {
  return header.layer() == nullptr ? 0 : static_cast<int64_t>(header.layer()->sequences.size());
}

}  // namespace

int64_t LayerSwap::rows() const {
  int64_t rows = 0;
  for (const SwapSequence& sequence : sequences) rows += sequence.row_count;
  return rows;
}

int64_t LayerSwap::returned_rows() const {
  int64_t rows = 0;
  for (const SwapSequence& sequence : sequences) rows += sequence.returned();
  return rows;
}

int64_t SwapHeader::rows() const {
  return std::visit([](const auto& each) { return each.rows(); }, work);
}

int64_t SwapHeader::returned_rows() const {
  return std::visit([](const auto& each) { return each.returned_rows(); }, work);
}

int64_t SwapHeader::captured_rows() const {
  if (layer() == nullptr || !layer()->capture_layers) return 0;
  return layer()->layers.size() * layer()->rows();
}

absl::Status Validate(const SwapHeader& header, int64_t hidden_size, const EnvelopeLimits& limits) {
  CCOE_RETURN_IF_ERROR(ValidateFormat(header.format, hidden_size));
  if (header.ffn() != nullptr) return ValidateFfn(*header.ffn(), limits);
  CCOE_RETURN_IF_ERROR(ValidateExpert(*header.layer()));
  return ValidateSequences(*header.layer(), limits);
}

absl::Status Validate(const Envelope& envelope, int64_t hidden_size, const EnvelopeLimits& limits,
                      const RowMemory* memory) {
  const int64_t count = static_cast<int64_t>(envelope.swaps.size());
  if (count < 1 || count > limits.max_swaps) {
    return Wrong("swaps", absl::StrCat("1 to ", limits.max_swaps), absl::StrCat(count));
  }
  uint64_t last_id = 0;
  int64_t rows = 0, sequences = 0;
  for (const Swap& swap : envelope.swaps) {
    const auto name = [&] { return absl::StrCat("swap ", swap.header.id); };
    if (swap.header.id <= last_id) {
      return Wrong("swap id", absl::StrCat("more than ", last_id), absl::StrCat(swap.header.id));
    }
    last_id = swap.header.id;
    if (swap.header.format.dtype != envelope.swaps.front().header.format.dtype) {
      return Wrong(absl::StrCat(name(), " wire_dtype"),
                   absl::StrCat("that of the envelope's first swap, ",
                                kernels::DTypeName(envelope.swaps.front().header.format.dtype)),
                   kernels::DTypeName(swap.header.format.dtype));
    }
    CCOE_RETURN_IF_ERROR_IN(Validate(swap.header, hidden_size, limits), name());
    CCOE_RETURN_IF_ERROR_IN(ValidateRows(swap, memory), name());
    rows += swap.header.rows();
    sequences += SequencesOf(swap.header);
    if (rows > limits.max_rows || sequences > limits.max_sequences) {
      return Wrong("envelope",
                   absl::StrCat("at most ", limits.max_rows, " rows and ", limits.max_sequences,
                                " sequences"),
                   absl::StrCat(rows, " and ", sequences, " and more"));
    }
  }
  return absl::OkStatus();
}

SwapBytes SizeOf(const SwapHeader& header) {
  const int64_t row_bytes = RowBytes(header.format);
  SwapBytes bytes = {header.rows() * row_bytes, header.returned_rows() * row_bytes};
  if (const FfnSwap* ffn = header.ffn()) {
    bytes.sent += ffn->rows() * kCountBytes + ffn->pairs() * kPairBytes;
  }
  bytes.returned +=
      header.captured_rows() * header.format.hidden_size * static_cast<int64_t>(sizeof(float));
  return bytes;
}

SwapBytes SizeOf(const Envelope& envelope) {
  SwapBytes bytes;
  for (const Swap& swap : envelope.swaps) bytes += SizeOf(swap.header);
  return bytes;
}

int64_t MaxRows(const SwapForm& form, const LinkBounds& bounds) {
  const int64_t row_bytes = RowBytes(form.format);
  int64_t sent = row_bytes, returned = row_bytes;
  if (form.experts_per_row > 0) {
    sent += kCountBytes + form.experts_per_row * kPairBytes;
    if (!form.combine) returned *= form.experts_per_row;
  }
  return std::min(bounds.max_rows, bounds.max_bytes / std::max({sent, returned, int64_t{1}}));
}

}  // namespace ccoe::exchange
