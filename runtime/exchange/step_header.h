// What travels in front of a swap's rows.
#ifndef CCOE_RUNTIME_EXCHANGE_STEP_HEADER_H_
#define CCOE_RUNTIME_EXCHANGE_STEP_HEADER_H_

#include <cstdint>
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
  uint64_t sequence_id = 0;    // unique among the sender's living sequences
  int64_t first_position = 0;  // of the first row; the expert must hold KV for all positions before it
  int64_t row_count = 0;       // > 0
  ReturnRows return_rows = ReturnRows::kLast;

  // Rows that come back.
  int64_t returned() const {
    return return_rows == ReturnRows::kAll ? row_count : return_rows == ReturnRows::kLast ? 1 : 0;
  }
};

struct StepHeader {
  uint64_t step_id = 0;  // chosen by the sender, rising along a link
  ExpertRef expert;      // real version, never 0
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
};

// INVALID_ARGUMENT naming the field, expected and found: no rows, a row count <= 0, a sequence named twice, sums over the
// limits, another hidden size than `hidden_size`, an unknown wire dtype, version 0, an empty layer range.
absl::Status Validate(const StepHeader& header, int64_t hidden_size, const StepLimits& limits = {});

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_STEP_HEADER_H_
