// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/ffn_pass.h"

#include <cstdint>
#include <utility>

#include "runtime/base/status_macros.h"
#include "runtime/model/block.h"

namespace ccoe::experts {
namespace {

using exchange::FfnSwap;

// One pass: as many pairs at a time as there is memory for.
class FfnPass {
 public:
  FfnPass(const model::FfnSpec& ffn, absl::Span<const model::FfnExpertWeights> experts,
          absl::Span<const WaitingSwap> swaps, PassMemory& memory)
      : ffn_(ffn),
        experts_(experts),
        swaps_(swaps),
        memory_(memory),
        results_(swaps, memory.hidden_size()) {}

  absl::Status Run() {
    while (swap_ < swaps_.size()) CCOE_RETURN_IF_ERROR(RunPiece(NextPiece()));
    return absl::OkStatus();
  }
  std::vector<exchange::SwapResult> TakeResults() { return std::move(results_).Take(); }

 private:
  // Rows of some swaps with all their pairs.
  struct Piece {
    std::vector<RowRun> rows;
    std::vector<int32_t> row, expert, out_row;  // of each pair, as model::ExpertPairs
    std::vector<float> weight;

    int64_t row_count() const {
      return rows.empty() ? 0 : rows.back().pass_row + rows.back().count;
    }
    int64_t pairs() const { return static_cast<int64_t>(row.size()); }
  };

  Piece NextPiece() {
    Piece piece;
    for (; swap_ < swaps_.size(); ++swap_, row_ = 0) {
      const FfnSwap& ffn = swaps_[swap_].ffn();
      for (; row_ < ffn.rows(); ++row_) {
        const int64_t more = ffn.offsets[row_ + 1] - ffn.offsets[row_];
        if (piece.pairs() > 0 && piece.pairs() + more > memory_.limits().pairs) return piece;
        AddRow(ffn, piece);
      }
    }
    return piece;
  }

  void AddRow(const FfnSwap& ffn, Piece& piece) const {
    const auto at = static_cast<int32_t>(piece.row_count());
    for (int32_t pair = ffn.offsets[row_]; pair < ffn.offsets[row_ + 1]; ++pair) {
      piece.out_row.push_back(static_cast<int32_t>(piece.pairs()));
      piece.row.push_back(at);
      piece.expert.push_back(ffn.experts[pair]);
      piece.weight.push_back(ffn.weights[pair]);
    }
    AppendRun(piece.rows, {swap_, row_, at, 1});
  }

  absl::Status RunPiece(const Piece& piece) {
    CCOE_RETURN_IF_ERROR(memory_.TakeIn(swaps_, piece.rows));
    model::MoeScratch& scratch = memory_.decoder().moe();
    const int64_t rows = piece.row_count(), hidden = memory_.hidden_size();
    const kernels::Matrix contributions =
        model::ScratchView(scratch.contributions, piece.pairs(), hidden);
    const model::ExpertPairs pairs = {memory_.Rows(rows), piece.row, piece.expert, piece.weight,
                                      piece.out_row};
    CCOE_RETURN_IF_ERROR(
        model::RunFfnExperts(ffn_, experts_, pairs, memory_.ops(), scratch, contributions));
    return Give(piece, contributions, model::ScratchView(scratch.sum, rows, hidden));
  }

  // A contribution for each pair, or where the swap wants them combined their sums.
  absl::Status Give(const Piece& piece, kernels::Matrix contributions, kernels::Matrix sums) {
    std::vector<RowRun> from_pairs, from_sums;
    int64_t pair = 0;
    for (const RowRun& run : piece.rows) {
      const FfnSwap& ffn = swaps_[run.swap].ffn();
      const int32_t first = ffn.offsets[run.swap_row];
      const int64_t count = ffn.offsets[run.swap_row + run.count] - first;
      if (ffn.combine) {
        std::vector<int32_t> offsets;
        for (int64_t r = 0; r <= run.count; ++r) {
          offsets.push_back(ffn.offsets[run.swap_row + r] - first);
        }
        memory_.ops().CombineRows(
            {contributions.Slice(pair, count), offsets, sums.Slice(run.pass_row, run.count)});
        from_sums.push_back(run);
      } else {
        from_pairs.push_back({run.swap, first, pair, count});
      }
      pair += count;
    }
    CCOE_RETURN_IF_ERROR(results_.Give(contributions, from_pairs, memory_.ops()));
    return from_sums.empty() ? absl::OkStatus() : results_.Give(sums, from_sums, memory_.ops());
  }

  const model::FfnSpec& ffn_;
  const absl::Span<const model::FfnExpertWeights> experts_;
  const absl::Span<const WaitingSwap> swaps_;
  PassMemory& memory_;
  PassResults results_;
  size_t swap_ = 0;  // the next row's
  int64_t row_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<exchange::SwapResult>> RunFfnPass(
    const model::FfnSpec& ffn, absl::Span<const model::FfnExpertWeights> experts,
    absl::Span<const WaitingSwap> swaps, PassMemory& memory) {
  FfnPass pass(ffn, experts, swaps, memory);
  if (absl::Status run = pass.Run(); !run.ok()) {
    // What still runs may touch the swaps' rows and the results', which go now.
    run.Update(memory.ops().Synchronize());
    return run;
  }
  return pass.TakeResults();
}

}  // namespace ccoe::experts
