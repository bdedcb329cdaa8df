// What travels in front of a swap's rows.
#ifndef CCOE_RUNTIME_EXCHANGE_STEP_HEADER_H_
#define CCOE_RUNTIME_EXCHANGE_STEP_HEADER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "kernels/dtype.h"
#include "runtime/base/ids.h"
#include "runtime/model/model_spec.h"

namespace ccoe::exchange {

// Which of a sequence's rows come back.
enum class ReturnRows : uint8_t {
  kNone,  // a chunk in the middle of a prompt: only its KV matters (suffix experts)
  kLast,  // the last row: enough to sample the next token
  kAll,   // every row: layers follow after the expert, or all logits are wanted
};

// Consecutive rows of one sequence in a swap.
struct SwapSequence {
  uint64_t sequence_id = 0;  // unique among the sender's living sequences
  int64_t first_position =
      0;                  // of the first row; the expert must hold KV for all positions before it
  int64_t row_count = 0;  // > 0
  ReturnRows return_rows = ReturnRows::kLast;

  // Rows that come back.
  int64_t returned() const {
    return return_rows == ReturnRows::kAll ? row_count : return_rows == ReturnRows::kLast ? 1 : 0;
  }
};

// Rows on their way to FFN experts of one MoE layer, each row once, with the experts it needs on
// this worker. Stateless: the rows belong to no sequence.
struct FfnDispatch {
  int32_t layer = 0;
  // Return one row per token, its experts' contributions added in the order below (less traffic);
  // else one row per (token, expert).
  bool combine = false;
  std::vector<int32_t> offsets;  // [rows + 1], from 0, rising by 1 or more: row r goes through
                                 // experts [offsets[r], offsets[r + 1])
  std::vector<int32_t> experts;  // rising within a row
  std::vector<float> weights;    // as many: the gate's, finite; already part of what comes back

  int64_t rows() const { return offsets.empty() ? 0 : static_cast<int64_t>(offsets.size()) - 1; }
  int64_t pairs() const { return static_cast<int64_t>(experts.size()); }
  // Rows that come back.
  int64_t returned() const { return combine ? rows() : pairs(); }
};

// Either rows of sequences for a layer expert, or (`ffn` set) rows for FFN experts.
struct StepHeader {
  uint64_t step_id = 0;            // chosen by the sender, rising along a link
  std::optional<FfnDispatch> ffn;  // then capture_layers is false, there are no sequences, and
                                   // expert and layers are not used
  ExpertRef expert;                // real version, never 0
  model::LayerRange layers;
  int64_t hidden_size = 0;
  kernels::DType wire_dtype = kernels::DType::kF32;  // kF32 or kBF16, both ways
  bool capture_layers = false;  // also return every layer's output for all rows (score --hidden)
  std::vector<SwapSequence> sequences;

  int64_t rows() const;           // sent
  int64_t returned_rows() const;  // coming back
};

// The bounds a receiver holds a header to.
struct StepLimits {
  int64_t max_rows = 65536;
  int64_t max_sequences = 4096;
  int64_t max_position = int64_t{1} << 24;
  int64_t max_experts_per_row = 1024;
};

// INVALID_ARGUMENT naming the field, expected and found: no rows, a row count <= 0, a sequence
// named twice, sums over the limits, another hidden size than `hidden_size`, an unknown wire dtype,
// version 0, an empty layer range; of a dispatch: a layer below 0, offsets that do not rise from 0,
// lists of different lengths, more experts for a row than the limit, experts of a row that do not
// rise, weights that are not finite, sequences or capture_layers beside it.
absl::Status Validate(const StepHeader& header, int64_t hidden_size, const StepLimits& limits = {});

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_STEP_HEADER_H_
