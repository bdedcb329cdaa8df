#include "runtime/experts/expert_pass.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/row_copy.h"

namespace ccoe::experts {

ExpertPass::ExpertPass(int64_t hidden_size, int64_t max_rows, std::unique_ptr<kernels::Ops> ops)
    : hidden_size_(hidden_size),
      max_rows_(max_rows),
      ops_(std::move(ops)),
      scratch_(&ops_->device()) {}

absl::StatusOr<std::unique_ptr<ExpertPass>> ExpertPass::Create(const model::ModelSpec& spec,
                                                               int64_t max_rows,
                                                               std::unique_ptr<kernels::Ops> ops) {
  auto pass = absl::WrapUnique(new ExpertPass(spec.hidden_size, max_rows, std::move(ops)));
  CCOE_RETURN_IF_ERROR(Annotate(pass->scratch_.ReservePasses(spec, max_rows), "an expert's pass"));
  CCOE_ASSIGN_OR_RETURN(
      pass->hidden_,
      pass->device().Allocate(static_cast<size_t>(max_rows * spec.hidden_size) * sizeof(float)));
  return pass;
}

absl::StatusOr<std::vector<exchange::SwapResult>> ExpertPass::Run(
    const model::Decoder& decoder, const model::KvStorage& storage,
    absl::Span<const WaitingSwap> swaps, const model::RowBatch& batch) {
  const absl::Time start = absl::Now();
  std::vector<SwapTarget> targets = TargetsOf(swaps, hidden_size_);
  absl::Status run = RunSwaps(decoder, storage, swaps, batch, targets);
  // Rows that are handed over are complete; and after an error what still runs may touch the
  // swaps' rows and the results', which go now.
  run.Update(ops_->Synchronize());
  CCOE_RETURN_IF_ERROR(run);
  return ResultsOf(std::move(targets), absl::Now() - start);
}

absl::Status ExpertPass::RunSwaps(const model::Decoder& decoder, const model::KvStorage& storage,
                                  absl::Span<const WaitingSwap> swaps, const model::RowBatch& batch,
                                  std::vector<SwapTarget>& targets) {
  const int64_t rows = batch.rows();
  std::vector<float>& captured = targets.front().result.captured;
  const bool captures = swaps.front().header.capture_layers;
  if (captures) captured.resize(decoder.layers().size() * rows * hidden_size_);
  for (int64_t begin = 0; begin < rows; begin += max_rows_) {
    const Piece piece = {begin, std::min(rows, begin + max_rows_)};
    CCOE_RETURN_IF_ERROR(TakeIn(swaps, piece));
    Capture capture;
    if (captures) capture = {captured.data() + begin * hidden_size_, rows * hidden_size_};
    CCOE_RETURN_IF_ERROR(Compute(decoder, storage, Cut(batch, piece), capture));
    CCOE_RETURN_IF_ERROR(Give(swaps, piece, targets));
  }
  return absl::OkStatus();
}

// A sequence's rows may be cut: those behind see the KV of those before.
model::RowBatch ExpertPass::Cut(const model::RowBatch& batch, const Piece& piece) {
  model::RowBatch cut;
  for (const kernels::SequenceRows& all : batch.sequences) {
    const int64_t begin = std::max(all.row_begin, piece.begin);
    const int64_t end = std::min(all.row_begin + all.row_count, piece.end);
    if (begin >= end) continue;
    cut.sequences.push_back({begin - piece.begin, end - begin,
                             all.first_position + (begin - all.row_begin), all.block_table});
  }
  return cut;
}

absl::Status ExpertPass::TakeIn(absl::Span<const WaitingSwap> swaps, const Piece& piece) {
  CCOE_RETURN_IF_ERROR(ops_->Synchronize());  // a pass that failed half-way may still be running
  int64_t row = 0;
  for (const WaitingSwap& swap : swaps) {
    const int64_t begin = std::max(row, piece.begin);
    const int64_t end = std::min(row + swap.header.rows(), piece.end);
    if (begin < end) {
      const kernels::ConstMatrix from =
          swap.rows.Rows(hidden_size_).Slice(begin - row, end - begin);
      float* const to = Row(begin - piece.begin);
      if (swap.rows.on_device()) {
        exchange::CopyRows(*ops_, from, kernels::F32Matrix(to, end - begin, hidden_size_));
      } else {
        CCOE_RETURN_IF_ERROR(
            device().CopyFromHost(from.data, to, (end - begin) * hidden_size_ * sizeof(float)));
      }
    }
    row += swap.header.rows();
  }
  return absl::OkStatus();
}

absl::Status ExpertPass::Compute(const model::Decoder& decoder, const model::KvStorage& storage,
                                 const model::RowBatch& batch, const Capture& capture) {
  const kernels::Matrix hidden = kernels::F32Matrix(hidden_.f32(), batch.rows(), hidden_size_);
  if (capture.values == nullptr) {
    CCOE_RETURN_IF_ERROR(decoder.Run(decoder.layers(), batch, storage, *ops_, scratch_, hidden));
    return ops_->Synchronize();
  }
  absl::Status copied = absl::OkStatus();
  auto copy = [&](int32_t layer, kernels::ConstMatrix output) {
    if (absl::Status done = ops_->Synchronize(); !done.ok()) copied = done;
    float* target = capture.values + (layer - decoder.layers().first) * capture.layer_values;
    const absl::Status status =
        device().CopyToHost(output.data, target, batch.rows() * hidden_size_ * sizeof(float));
    if (!status.ok()) copied = status;
  };
  CCOE_RETURN_IF_ERROR(
      decoder.Run(decoder.layers(), batch, storage, *ops_, scratch_, hidden, copy));
  CCOE_RETURN_IF_ERROR(copied);
  return ops_->Synchronize();
}

absl::Status ExpertPass::Give(absl::Span<const WaitingSwap> swaps, const Piece& piece,
                              std::vector<SwapTarget>& targets) {
  int64_t row = 0;
  for (size_t i = 0; i < swaps.size(); ++i) {
    int64_t place = 0;  // among the swap's rows that go back
    for (const exchange::SwapSequence& sequence : swaps[i].header.sequences) {
      row += sequence.row_count;
      const int64_t first = row - sequence.returned();
      const int64_t begin = std::max(first, piece.begin), end = std::min(row, piece.end);
      if (begin < end) {
        CCOE_RETURN_IF_ERROR(
            GiveRows(begin - piece.begin, end - begin, place + (begin - first), targets[i]));
      }
      place += sequence.returned();
    }
  }
  return absl::OkStatus();
}

absl::Status ExpertPass::GiveRows(int64_t row, int64_t count, int64_t place, SwapTarget& target) {
  if (target.device_rows.empty()) {
    return device().CopyToHost(Row(row), target.result.rows.data() + place * hidden_size_,
                               count * hidden_size_ * sizeof(float));
  }
  exchange::CopyRows(*ops_, kernels::F32Matrix(Row(row), count, hidden_size_),
                     target.device_rows.Slice(place, count));
  return absl::OkStatus();
}

}  // namespace ccoe::experts
