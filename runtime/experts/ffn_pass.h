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

  // Results of `swaps`, all for one layer, in their order. `experts[e]` is expert e's; those that
  // occur are set. A row's bits depend on nothing but the row and its experts.
  absl::StatusOr<std::vector<exchange::SwapResult>> Run(
      const model::FfnSpec& ffn, absl::Span<const model::FfnExpertWeights> experts,
      absl::Span<const WaitingSwap> swaps);

 private:
  FfnPass(int64_t hidden_size, int64_t max_pairs, std::unique_ptr<kernels::Ops> ops);
  absl::Status Reserve(int64_t width);

  // Rows [first_row, first_row + rows) of a swap, and where what they give goes.
  struct Piece {
    const WaitingSwap* swap = nullptr;
    exchange::SwapResult* result = nullptr;
    int64_t first_row = 0;
    int64_t rows = 0;

    const exchange::FfnDispatch& ffn() const { return *swap->header.ffn; }
    int64_t first_pair() const { return ffn().offsets[first_row]; }
    int64_t pairs() const { return ffn().offsets[first_row + rows] - first_pair(); }
  };
  // Pairs of several pieces, as model::ExpertPairs.
  struct Pairs {
    std::vector<int32_t> rows, experts, out_rows;
    std::vector<float> weights;
  };

  // Takes up to max_pairs_ pairs, from row `row` of swap `swap` on, and moves both on.
  std::vector<Piece> NextPieces(absl::Span<const WaitingSwap> swaps,
                                std::vector<exchange::SwapResult>& results, size_t& swap,
                                int64_t& row) const;
  absl::Status RunPieces(const model::FfnSpec& ffn,
                         absl::Span<const model::FfnExpertWeights> experts,
                         absl::Span<const Piece> pieces);
  absl::Status Upload(absl::Span<const Piece> pieces, Pairs& pairs);
  void Combine(absl::Span<const Piece> pieces);
  absl::Status Download(absl::Span<const Piece> pieces);

  kernels::Device& device() const { return ops_->device(); }
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
