// How much a swap carries, and how much it may: what a sender cuts a step by.
#ifndef CCOE_RUNTIME_EXCHANGE_SWAP_SIZE_H_
#define CCOE_RUNTIME_EXCHANGE_SWAP_SIZE_H_

#include <cstdint>
#include <limits>

#include "kernels/dtype.h"
#include "runtime/exchange/step_header.h"

namespace ccoe::exchange {

// What one swap over a link may carry.
struct SwapBounds {
  int64_t max_rows = StepLimits().max_rows;                 // sent
  int64_t max_bytes = std::numeric_limits<int64_t>::max();  // each way; without a wire: no bound
};

// Bytes on the wire: rows, and of a dispatch the lists that travel with them.
struct SwapBytes {
  int64_t sent = 0;
  int64_t returned = 0;

  int64_t total() const { return sent + returned; }
};

// The header has passed Validate.
SwapBytes SizeOf(const StepHeader& header);

// What the size of a row depends on.
struct SwapForm {
  int64_t hidden_size = 0;
  kernels::DType wire_dtype = kernels::DType::kF32;
  int64_t experts_per_row = 0;  // of a dispatch, at most; 0: rows of sequences, all coming back
  bool combine = false;         // of a dispatch
};

// Rows that surely fit into one swap of this form. 0 where not even one does.
int64_t MaxSwapRows(const SwapForm& form, const SwapBounds& bounds);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_SWAP_SIZE_H_
