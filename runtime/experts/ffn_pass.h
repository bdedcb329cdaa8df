// One pass of a layer's FFN experts over the merged rows of several swaps.
#ifndef CCOE_RUNTIME_EXPERTS_FFN_PASS_H_
#define CCOE_RUNTIME_EXPERTS_FFN_PASS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/experts/swap_queue.h"
#include "runtime/experts/swap_target.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/moe.h"

namespace ccoe::experts {

// Owns the ops and the memory of a pass. Not thread-safe.
class FfnPass {
 public:
  // Takes the memory for `max_pairs` (row, expert) pairs, or for a row's with all experts where
  // those are more: larger passes are computed piece by piece. RESOURCE_EXHAUSTED from the device.
  static absl::StatusOr<std::unique_ptr<FfnPass>> Create(const model::ModelSpec& spec,
                                                         int64_t max_pairs,
                                                         std::unique_ptr<kernels::Ops> ops);

  // Results of `swaps`, all for one layer, in their order: on the device, in the wire dtype, where
  // a swap's rows were, else in host memory. `experts[e]` is expert e's; those that occur are set.
  // A row's bits depend on nothing but the row and its experts.
  absl::StatusOr<std::vector<exchange::SwapResult>> Run(
      const model::FfnSpec& ffn, absl::Span<const model::FfnExpertWeights> experts,
      absl::Span<const WaitingSwap> swaps);

  kernels::Device& device() const { return ops_->device(); }

 private:
  FfnPass(int64_t hidden_size, int64_t max_pairs, std::unique_ptr<kernels::Ops> ops);
  absl::Status Reserve(int64_t width);

  // Rows [first_row, first_row + rows) of a swap, and where what they give goes.
  struct Piece {
    const WaitingSwap* swap = nullptr;
    SwapTarget* target = nullptr;
    int64_t first_row = 0;
    int64_t rows = 0;

    const exchange::FfnDispatch& ffn() const { return *swap->header.ffn; }
    int64_t first_pair() const { return ffn().offsets[first_row]; }
    int64_t pairs() const { return ffn().offsets[first_row + rows] - first_pair(); }
    // Of what the swap gives.
    int64_t first_returned() const { return ffn().combine ? first_row : first_pair(); }
    int64_t returned() const { return ffn().combine ? rows : pairs(); }
  };
  // Pairs of several pieces, as model::ExpertPairs.
  struct Pairs {
    std::vector<int32_t> rows, experts, out_rows;
    std::vector<float> weights;
  };

  // Takes up to max_pairs_ pairs, from row `row` of swap `swap` on, and moves both on.
  std::vector<Piece> NextPieces(absl::Span<const WaitingSwap> swaps,
                                std::vector<SwapTarget>& targets, size_t& swap, int64_t& row) const;
  absl::Status RunSwaps(const model::FfnSpec& ffn,
                        absl::Span<const model::FfnExpertWeights> experts,
                        absl::Span<const WaitingSwap> swaps, std::vector<SwapTarget>& targets);
  absl::Status RunPieces(const model::FfnSpec& ffn,
                         absl::Span<const model::FfnExpertWeights> experts,
                         absl::Span<const Piece> pieces);
  absl::Status TakeIn(absl::Span<const Piece> pieces, Pairs& pairs);
  absl::Status TakeInRows(const Piece& piece, int64_t row);
  void Combine(absl::Span<const Piece> pieces);
  // What the pieces give, those on the device and, once that is through, those in host memory.
  void GiveOnDevice(absl::Span<const Piece> pieces);
  absl::Status Download(absl::Span<const Piece> pieces);
  // Where a piece's results lie whose first row and pair, of all pieces, are these.
  kernels::Matrix Results(const Piece& piece, int64_t row, int64_t pair) const;

  int64_t RowBytes(int64_t rows) const {
    return rows * hidden_size_ * static_cast<int64_t>(sizeof(float));
  }

  const int64_t hidden_size_;
  const int64_t max_pairs_;
  const std::unique_ptr<kernels::Ops> ops_;
  model::MoeScratch scratch_;
  kernels::Buffer rows_;           // [rows, hidden] of all pieces
  kernels::Buffer contributions_;  // [pairs, hidden]
  kernels::Buffer sums_;           // [rows, hidden], of pieces whose rows are combined
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_FFN_PASS_H_
