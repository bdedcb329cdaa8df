#include "runtime/experts/ffn_pass.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/row_copy.h"
#include "runtime/model/scratch.h"

namespace ccoe::experts {

FfnPass::FfnPass(int64_t hidden_size, int64_t max_pairs, std::unique_ptr<kernels::Ops> ops)
    : hidden_size_(hidden_size),
      max_pairs_(max_pairs),
      ops_(std::move(ops)),
      scratch_(&ops_->device()) {}

absl::StatusOr<std::unique_ptr<FfnPass>> FfnPass::Create(const model::ModelSpec& spec,
                                                         int64_t max_pairs,
                                                         std::unique_ptr<kernels::Ops> ops) {
  int64_t pairs = max_pairs, width = 0;
  for (const model::LayerSpec& layer : spec.layers) {
    if (!layer.ffn.is_moe()) continue;
    pairs = std::max(pairs, layer.ffn.moe.experts);
    width = std::max(width, layer.ffn.moe.intermediate);
  }
  auto pass = absl::WrapUnique(new FfnPass(spec.hidden_size, pairs, std::move(ops)));
  CCOE_RETURN_IF_ERROR(Annotate(pass->Reserve(width), "FFN experts' pass"));
  return pass;
}

// A row has a pair at least, so there are no more rows than pairs.
absl::Status FfnPass::Reserve(int64_t width) {
  for (kernels::Buffer* buffer : {&rows_, &sums_, &contributions_}) {
    CCOE_RETURN_IF_ERROR(model::GrowScratch(&device(), max_pairs_ * hidden_size_, *buffer));
  }
  return scratch_.ReserveExperts(max_pairs_ * hidden_size_, max_pairs_ * width);
}

absl::StatusOr<std::vector<exchange::SwapResult>> FfnPass::Run(
    const model::FfnSpec& ffn, absl::Span<const model::FfnExpertWeights> experts,
    absl::Span<const WaitingSwap> swaps) {
  const absl::Time start = absl::Now();
  std::vector<SwapTarget> targets = TargetsOf(swaps, hidden_size_);
  if (absl::Status run = RunSwaps(ffn, experts, swaps, targets); !run.ok()) {
    // Whatever still runs may read the swaps' rows, which go with them.
    ops_->Synchronize().IgnoreError();
    return run;
  }
  return ResultsOf(std::move(targets), absl::Now() - start);
}

absl::Status FfnPass::RunSwaps(const model::FfnSpec& ffn,
                               absl::Span<const model::FfnExpertWeights> experts,
                               absl::Span<const WaitingSwap> swaps,
                               std::vector<SwapTarget>& targets) {
  size_t swap = 0;
  int64_t row = 0;
  while (swap < swaps.size()) {
    CCOE_RETURN_IF_ERROR(RunPieces(ffn, experts, NextPieces(swaps, targets, swap, row)));
  }
  return absl::OkStatus();
}

std::vector<FfnPass::Piece> FfnPass::NextPieces(absl::Span<const WaitingSwap> swaps,
                                                std::vector<SwapTarget>& targets, size_t& swap,
                                                int64_t& row) const {
  std::vector<Piece> pieces;
  int64_t pairs = 0;
  while (swap < swaps.size()) {
    const exchange::FfnDispatch& ffn = *swaps[swap].header.ffn;
    Piece piece = {&swaps[swap], &targets[swap], row, 0};
    while (row < ffn.rows()) {
      const int64_t count = ffn.offsets[row + 1] - ffn.offsets[row];
      if (pairs > 0 && pairs + count > max_pairs_) break;
      pairs += count;
      ++piece.rows;
      ++row;
    }
    if (piece.rows > 0) pieces.push_back(piece);
    if (row < ffn.rows()) break;
    ++swap;
    row = 0;
  }
  return pieces;
}

absl::Status FfnPass::RunPieces(const model::FfnSpec& ffn,
                                absl::Span<const model::FfnExpertWeights> experts,
                                absl::Span<const Piece> pieces) {
  int64_t rows = 0, pairs = 0;
  for (const Piece& piece : pieces) {
    rows += piece.rows;
    pairs += piece.pairs();
  }
  CCOE_RETURN_IF_ERROR(model::GrowScratch(&device(), rows * hidden_size_, rows_));
  CCOE_RETURN_IF_ERROR(model::GrowScratch(&device(), rows * hidden_size_, sums_));
  CCOE_RETURN_IF_ERROR(model::GrowScratch(&device(), pairs * hidden_size_, contributions_));
  Pairs merged;
  CCOE_RETURN_IF_ERROR(TakeIn(pieces, merged));
  const model::ExpertPairs view = {merged.rows, merged.experts, merged.weights, merged.out_rows};
  CCOE_RETURN_IF_ERROR(
      model::RunFfnExperts(ffn, experts, view, model::ScratchView(rows_, rows, hidden_size_), *ops_,
                           scratch_, model::ScratchView(contributions_, pairs, hidden_size_)));
  Combine(pieces);
  GiveOnDevice(pieces);
  CCOE_RETURN_IF_ERROR(ops_->Synchronize());
  return Download(pieces);
}

absl::Status FfnPass::TakeInRows(const Piece& piece, int64_t row) {
  const kernels::ConstMatrix from =
      piece.swap->rows.Rows(hidden_size_).Slice(piece.first_row, piece.rows);
  float* const to = rows_.f32() + row * hidden_size_;
  if (!piece.swap->rows.on_device()) {
    return device().CopyFromHost(from.data, to, RowBytes(piece.rows));
  }
  exchange::CopyRows(*ops_, from, kernels::F32Matrix(to, piece.rows, hidden_size_));
  return absl::OkStatus();
}

absl::Status FfnPass::TakeIn(absl::Span<const Piece> pieces, Pairs& pairs) {
  CCOE_RETURN_IF_ERROR(ops_->Synchronize());  // a pass that failed half-way may still be running
  int32_t row = 0;
  for (const Piece& piece : pieces) {
    const exchange::FfnDispatch& ffn = piece.ffn();
    CCOE_RETURN_IF_ERROR(TakeInRows(piece, row));
    for (int64_t r = piece.first_row; r < piece.first_row + piece.rows; ++r, ++row) {
      pairs.rows.insert(pairs.rows.end(), ffn.offsets[r + 1] - ffn.offsets[r], row);
    }
    const int64_t first = piece.first_pair(), last = first + piece.pairs();
    pairs.experts.insert(pairs.experts.end(), ffn.experts.begin() + first,
                         ffn.experts.begin() + last);
    pairs.weights.insert(pairs.weights.end(), ffn.weights.begin() + first,
                         ffn.weights.begin() + last);
  }
  for (size_t i = 0; i < pairs.rows.size(); ++i) pairs.out_rows.push_back(static_cast<int32_t>(i));
  return absl::OkStatus();
}

void FfnPass::Combine(absl::Span<const Piece> pieces) {
  int64_t row = 0, pair = 0;
  for (const Piece& piece : pieces) {
    if (piece.ffn().combine) {
      std::vector<int32_t> offsets;
      for (int64_t r = piece.first_row; r <= piece.first_row + piece.rows; ++r) {
        offsets.push_back(static_cast<int32_t>(piece.ffn().offsets[r] - piece.first_pair()));
      }
      kernels::CombineRowsArgs args;
      args.contributions = kernels::F32Matrix(contributions_.f32() + pair * hidden_size_,
                                              piece.pairs(), hidden_size_);
      args.offsets = offsets;
      args.out = kernels::F32Matrix(sums_.f32() + row * hidden_size_, piece.rows, hidden_size_);
      ops_->CombineRows(args);
    }
    row += piece.rows;
    pair += piece.pairs();
  }
}

kernels::Matrix FfnPass::Results(const Piece& piece, int64_t row, int64_t pair) const {
  float* const first = piece.ffn().combine ? sums_.f32() + row * hidden_size_
                                           : contributions_.f32() + pair * hidden_size_;
  return kernels::F32Matrix(first, piece.returned(), hidden_size_);
}

void FfnPass::GiveOnDevice(absl::Span<const Piece> pieces) {
  int64_t row = 0, pair = 0;
  for (const Piece& piece : pieces) {
    if (!piece.target->device_rows.empty()) {
      exchange::CopyRows(*ops_, Results(piece, row, pair),
                         piece.target->device_rows.Slice(piece.first_returned(), piece.returned()));
    }
    row += piece.rows;
    pair += piece.pairs();
  }
}

absl::Status FfnPass::Download(absl::Span<const Piece> pieces) {
  int64_t row = 0, pair = 0;
  for (const Piece& piece : pieces) {
    if (piece.target->device_rows.empty()) {
      float* const target =
          piece.target->result.rows.data() + piece.first_returned() * hidden_size_;
      CCOE_RETURN_IF_ERROR(
          device().CopyToHost(Results(piece, row, pair).data, target, RowBytes(piece.returned())));
    }
    row += piece.rows;
    pair += piece.pairs();
  }
  return absl::OkStatus();
}

}  // namespace ccoe::experts
