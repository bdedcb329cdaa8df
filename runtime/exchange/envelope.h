// SPDX-License-Identifier: Apache-2.0
// What travels from a backbone worker to an expert worker: an envelope holds all that one step
// sends to one worker, as swaps. A swap is rows for the layers of one layer expert, or rows for FFN
// experts of one MoE layer; each is computed and answered by itself. At the end:
// what it takes of a link, and what a link's ends grant each other.
#ifndef CCOE_RUNTIME_EXCHANGE_ENVELOPE_H_
#define CCOE_RUNTIME_EXCHANGE_ENVELOPE_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "kernels/dtype.h"
#include "runtime/base/ids.h"
#include "runtime/exchange/row_block.h"
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
  int64_t first_position = 0;  // of the first row; the expert must hold KV for all before it
  int64_t row_count = 0;       // > 0
  ReturnRows return_rows = ReturnRows::kLast;

  // Rows that come back.
  int64_t returned() const {
    return return_rows == ReturnRows::kAll ? row_count : return_rows == ReturnRows::kLast ? 1 : 0;
  }
};

// Rows of sequences for a layer expert, sequence after sequence.
struct LayerSwap {
  ExpertRef expert;  // real version, never 0
  model::LayerRange layers;
  bool capture_layers = false;  // also return every layer's output for all rows (score --hidden)
  std::vector<SwapSequence> sequences;

  int64_t rows() const;
  int64_t returned_rows() const;
};

// Rows on their way to FFN experts of one MoE layer, each row once, with the experts it needs on
// this worker. Stateless: the rows belong to no sequence.
struct FfnSwap {
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
  int64_t returned_rows() const { return combine ? rows() : pairs(); }
};

// Of rows, both ways.
struct RowFormat {
  int64_t hidden_size = 0;                      // elements of a row
  kernels::DType dtype = kernels::DType::kF32;  // on the wire: kF32 or kBF16
};

struct SwapHeader {
  uint64_t id = 0;  // chosen by the sender, rising along a link
  RowFormat format;
  std::variant<LayerSwap, FfnSwap> work;

  const LayerSwap* layer() const { return std::get_if<LayerSwap>(&work); }
  const FfnSwap* ffn() const { return std::get_if<FfnSwap>(&work); }

  int64_t rows() const;           // sent
  int64_t returned_rows() const;  // coming back, where all sequences are computed
  int64_t captured_rows() const;  // with capture_layers: layers * rows, f32; else 0
};

// The rows a swap sends: all of `block`, or those that `index` names, in its order. Host rows are
// f32 and owned; rows of a device are in the wire's dtype, in the link's device_memory(), and
// `index` is empty. Whoever puts them on a wire, or takes them into a pass, gathers them: several
// swaps can share one block.
struct SwapRows {
  RowBlock block;
  std::vector<int32_t> index;

  // Of `cols` values each.
  int64_t count(int64_t cols) const {
    return index.empty() ? block.Rows(cols).rows : static_cast<int64_t>(index.size());
  }
};

struct Swap {
  SwapHeader header;
  SwapRows rows;  // [header.rows(), header.format.hidden_size]
};

struct Envelope {
  uint64_t step_id = 0;     // of the sender's step, for messages; not unique
  std::vector<Swap> swaps;  // 1 or more, ids rising
};

// The bounds a receiver holds an envelope to. Rows and sequences are those of all its swaps.
struct EnvelopeLimits {
  int64_t max_swaps = 1024;
  int64_t max_rows = 65536;
  int64_t max_sequences = 4096;
  int64_t max_position = int64_t{1} << 24;
  int64_t max_experts_per_row = 1024;
};

// INVALID_ARGUMENT naming the field, expected and found: another hidden size than `hidden_size`, an
// unknown dtype; of a layer swap: no rows, a row count <= 0, a sequence named twice, sums over the
// limits, version 0, an empty layer range; of an FFN swap: a layer below 0, offsets that do not
// rise from 0, lists of different lengths, more experts for a row than the limit, experts of a row
// that do not rise, weights that are not finite.
absl::Status Validate(const SwapHeader& header, int64_t hidden_size,
                      const EnvelopeLimits& limits = {});

// Each swap as above; no swap, too many, ids that do not rise, several wire dtypes, rows and
// sequences of all together over the limits; rows that are not [header.rows(), hidden_size], f32 of
// host memory or of the wire's dtype in `memory` (null: host memory only), an index out of range.
absl::Status Validate(const Envelope& envelope, int64_t hidden_size, const EnvelopeLimits& limits,
                      const RowMemory* memory);

// Bytes on the wire: rows, and of an FFN swap the lists that travel with them.
struct SwapBytes {
  int64_t sent = 0;
  int64_t returned = 0;

  int64_t total() const { return sent + returned; }
  SwapBytes& operator+=(const SwapBytes& other) {
    sent += other.sent;
    returned += other.returned;
    return *this;
  }
};

// The header has passed Validate.
SwapBytes SizeOf(const SwapHeader& header);
SwapBytes SizeOf(const Envelope& envelope);

// What one envelope over a link may carry; a sender cuts a step by it.
struct LinkBounds {
  int64_t max_rows = EnvelopeLimits().max_rows;             // sent
  int64_t max_bytes = std::numeric_limits<int64_t>::max();  // each way; without a wire: no bound
  int64_t max_swaps = EnvelopeLimits().max_swaps;
  int64_t max_sequences = EnvelopeLimits().max_sequences;
};

// What the size of a row depends on.
struct SwapForm {
  RowFormat format;
  int64_t experts_per_row = 0;  // of an FFN swap, at most; 0: rows of sequences, all coming back
  bool combine = false;         // of an FFN swap
};

// Rows that surely fit into one envelope of this form. 0 where not even one does.
int64_t MaxRows(const SwapForm& form, const LinkBounds& bounds);

struct SwapCredit {
  int64_t bytes = 0;  // sent and coming back, from the swap's start to its answer
  int64_t swaps = 0;

  bool Covers(const SwapCredit& cost) const { return cost.bytes <= bytes && cost.swaps <= swaps; }
  SwapCredit& operator+=(const SwapCredit& other) {
    bytes += other.bytes;
    swaps += other.swaps;
    return *this;
  }
  SwapCredit& operator-=(const SwapCredit& other) {
    bytes -= other.bytes;
    swaps -= other.swaps;
    return *this;
  }
  friend SwapCredit operator+(SwapCredit a, const SwapCredit& b) { return a += b; }

  // The lower of both.
  static SwapCredit Min(const SwapCredit& a, const SwapCredit& b) {
    return {std::min(a.bytes, b.bytes), std::min(a.swaps, b.swaps)};
  }
};

// The header has passed Validate.
inline SwapCredit CostOf(const SwapHeader& header) { return {SizeOf(header).total(), 1}; }
inline SwapCredit CostOf(const Envelope& envelope) {
  return {SizeOf(envelope).total(), static_cast<int64_t>(envelope.swaps.size())};
}

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_ENVELOPE_H_
