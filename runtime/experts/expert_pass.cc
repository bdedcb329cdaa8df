#include "runtime/experts/expert_pass.h"

#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/row_copy.h"

namespace ccoe::experts {

ExpertPass::ExpertPass(int64_t hidden_size, std::unique_ptr<kernels::Ops> ops)
    : hidden_size_(hidden_size), ops_(std::move(ops)), scratch_(&ops_->device()) {}

absl::StatusOr<std::vector<exchange::SwapResult>> ExpertPass::Run(
    const model::Decoder& decoder, const model::KvStorage& storage,
    absl::Span<const WaitingSwap> swaps, const model::RowBatch& batch) {
  const absl::Time start = absl::Now();
  std::vector<exchange::SwapResult> results(swaps.size());
  absl::Status run = RunSwaps(decoder, storage, swaps, batch, results);
  // Rows that are handed over are complete; and after an error what still runs may touch the
  // swaps' rows and the results', which go now.
  run.Update(ops_->Synchronize());
  CCOE_RETURN_IF_ERROR(run);
  for (exchange::SwapResult& result : results) result.expert_time = absl::Now() - start;
  return results;
}

absl::Status ExpertPass::RunSwaps(const model::Decoder& decoder, const model::KvStorage& storage,
                                  absl::Span<const WaitingSwap> swaps, const model::RowBatch& batch,
                                  std::vector<exchange::SwapResult>& results) {
  CCOE_RETURN_IF_ERROR(TakeIn(swaps, batch.rows()));
  const bool capture = swaps.front().header.capture_layers;
  CCOE_RETURN_IF_ERROR(
      Compute(decoder, storage, batch, capture ? &results.front().captured : nullptr));
  int64_t row = 0;
  for (size_t i = 0; i < swaps.size(); ++i) {
    CCOE_RETURN_IF_ERROR(Give(swaps[i], row, results[i]));
    row += swaps[i].header.rows();
  }
  return absl::OkStatus();
}

absl::Status ExpertPass::TakeIn(absl::Span<const WaitingSwap> swaps, int64_t rows) {
  CCOE_RETURN_IF_ERROR(ops_->Synchronize());  // a pass that failed half-way may still be running
  const size_t bytes = static_cast<size_t>(rows * hidden_size_) * sizeof(float);
  if (hidden_.size_bytes() < bytes) {
    CCOE_ASSIGN_OR_RETURN(hidden_, device().Allocate(bytes));
  }
  int64_t row = 0;
  for (const WaitingSwap& swap : swaps) {
    const int64_t count = swap.header.rows();
    const kernels::ConstMatrix from = swap.rows.Rows(hidden_size_);
    if (swap.rows.on_device()) {
      exchange::CopyRows(*ops_, from, kernels::F32Matrix(Row(row), count, hidden_size_));
    } else {
      CCOE_RETURN_IF_ERROR(device().CopyFromHost(from.data, Row(row), swap.rows.bytes()));
    }
    row += count;
  }
  return absl::OkStatus();
}

absl::Status ExpertPass::Compute(const model::Decoder& decoder, const model::KvStorage& storage,
                                 const model::RowBatch& batch, std::vector<float>* captured) {
  const kernels::Matrix hidden = kernels::F32Matrix(hidden_.f32(), batch.rows(), hidden_size_);
  if (captured == nullptr) {
    CCOE_RETURN_IF_ERROR(decoder.Run(decoder.layers(), batch, storage, *ops_, scratch_, hidden));
    return ops_->Synchronize();
  }
  const int64_t values = batch.rows() * hidden_size_;
  captured->resize(static_cast<size_t>(decoder.layers().size() * values));
  absl::Status copied = absl::OkStatus();
  auto copy = [&](int32_t layer, kernels::ConstMatrix output) {
    if (absl::Status done = ops_->Synchronize(); !done.ok()) copied = done;
    float* target = captured->data() + (layer - decoder.layers().first) * values;
    const absl::Status status = device().CopyToHost(output.data, target, values * sizeof(float));
    if (!status.ok()) copied = status;
  };
  CCOE_RETURN_IF_ERROR(
      decoder.Run(decoder.layers(), batch, storage, *ops_, scratch_, hidden, copy));
  CCOE_RETURN_IF_ERROR(copied);
  return ops_->Synchronize();
}

absl::Status ExpertPass::Give(const WaitingSwap& swap, int64_t row, exchange::SwapResult& result) {
  if (swap.rows.on_device() && GiveOnDevice(swap, row, result)) return absl::OkStatus();
  return Download(swap.header, row, result.rows);
}

bool ExpertPass::GiveOnDevice(const WaitingSwap& swap, int64_t row, exchange::SwapResult& result) {
  const exchange::StepHeader& header = swap.header;
  if (header.returned_rows() == 0) return true;
  auto fresh = swap.rows.memory()->Take(header.returned_rows(), hidden_size_, header.wire_dtype);
  if (!fresh.ok()) return false;
  std::vector<int32_t> rows;
  for (const exchange::SwapSequence& sequence : header.sequences) {
    row += sequence.row_count;
    for (int64_t r = row - sequence.returned(); r < row; ++r) {
      rows.push_back(static_cast<int32_t>(r));
    }
  }
  ops_->GatherRows(kernels::F32Matrix(hidden_.f32(), row, hidden_size_), rows, fresh->rows);
  result.device_rows = std::move(fresh->block);
  return true;
}

absl::Status ExpertPass::Download(const exchange::StepHeader& header, int64_t row,
                                  std::vector<float>& rows) {
  rows.resize(static_cast<size_t>(header.returned_rows() * hidden_size_));
  float* target = rows.data();
  for (const exchange::SwapSequence& sequence : header.sequences) {
    row += sequence.row_count;
    const int64_t values = sequence.returned() * hidden_size_;
    if (values == 0) continue;
    CCOE_RETURN_IF_ERROR(
        device().CopyToHost(Row(row - sequence.returned()), target, values * sizeof(float)));
    target += values;
  }
  return absl::OkStatus();
}

}  // namespace ccoe::experts
