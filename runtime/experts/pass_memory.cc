// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/pass_memory.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/row_block.h"
#include "runtime/model/block.h"
#include "runtime/model/memory_plan.h"

namespace ccoe::experts {

void AppendRun(std::vector<RowRun>& runs, const RowRun& run) {
  if (run.count == 0) return;
  if (!runs.empty()) {
    RowRun& last = runs.back();
    if (last.swap == run.swap && last.swap_row + last.count == run.swap_row &&
        last.pass_row + last.count == run.pass_row) {
      last.count += run.count;
      return;
    }
  }
  runs.push_back(run);
}

std::vector<RowRun> CutRuns(absl::Span<const RowRun> runs, int64_t begin, int64_t end) {
  std::vector<RowRun> cut;
  for (const RowRun& run : runs) {
    const int64_t first = std::max(run.pass_row, begin);
    const int64_t last = std::min(run.pass_row + run.count, end);
    if (first >= last) continue;
    cut.push_back({run.swap, run.swap_row + (first - run.pass_row), first - begin, last - first});
  }
  return cut;
}

PassMemory::PassMemory(int64_t hidden_size, Limits limits, std::unique_ptr<kernels::Ops> ops)
    : hidden_size_(hidden_size), limits_(limits), ops_(std::move(ops)), decoder_(&ops_->device()) {}

absl::StatusOr<std::unique_ptr<PassMemory>> PassMemory::Create(const model::ModelSpec& spec,
                                                               Limits limits,
                                                               std::unique_ptr<kernels::Ops> ops) {
  if (!spec.has_moe()) limits.pairs = 0;
  if (limits.pairs > 0) {
    for (const model::LayerSpec& layer : spec.layers) {
      if (layer.ffn.is_moe()) limits.pairs = std::max(limits.pairs, layer.ffn.moe.experts);
    }
  }
  auto memory = absl::WrapUnique(new PassMemory(spec.hidden_size, limits, std::move(ops)));
  CCOE_RETURN_IF_ERROR_IN(memory->Reserve(spec), "memory of the experts' passes");
  return memory;
}

absl::Status PassMemory::ReserveFfn(const model::ModelSpec& spec) {
  int64_t width = 0;
  for (const model::LayerSpec& layer : spec.layers) {
    if (layer.ffn.is_moe()) width = std::max(width, layer.ffn.moe.intermediate);
  }
  // A row has a pair at least, so there are no more rows than pairs.
  const int64_t values = limits_.pairs * hidden_size_;
  model::MoeScratch& moe = decoder_.moe();
  CCOE_RETURN_IF_ERROR(model::GrowScratch(&device(), values, moe.contributions));
  CCOE_RETURN_IF_ERROR(model::GrowScratch(&device(), values, moe.sum));
  return moe.ReserveExperts(values, limits_.pairs * width);
}

absl::Status PassMemory::Reserve(const model::ModelSpec& spec) {
  const int64_t rows = std::max(limits_.rows, limits_.pairs);
  CCOE_RETURN_IF_ERROR(model::GrowScratch(&device(), rows * hidden_size_, rows_));
  int64_t pairs = 0;  // of a pass of a layer expert with FFN experts of its own
  for (const model::LayerSpec& layer : spec.layers) {
    if (layer.ffn.is_moe()) pairs = std::max(pairs, limits_.rows * layer.ffn.moe.gate.top_k);
  }
  // The larger first: scratch that grows at least doubles.
  const bool ffn_first = limits_.pairs > pairs;
  if (ffn_first) CCOE_RETURN_IF_ERROR(ReserveFfn(spec));
  if (limits_.rows > 0) CCOE_RETURN_IF_ERROR(decoder_.ReservePasses(spec, limits_.rows));
  return ffn_first || limits_.pairs == 0 ? absl::OkStatus() : ReserveFfn(spec);
}

kernels::Matrix PassMemory::Rows(int64_t count) const {
  return kernels::F32Matrix(rows_.f32(), count, hidden_size_);
}

absl::Status PassMemory::TakeInHostRows(const exchange::Swap& swap, const RowRun& run, float* to) {
  const float* from = swap.rows.block.host().data();
  const std::vector<int32_t>& index = swap.rows.index;
  const auto values = static_cast<size_t>(run.count * hidden_size_);
  if (index.empty()) from += run.swap_row * hidden_size_;
  if (!index.empty() || swap.header.format.dtype != kernels::DType::kF32) {
    staged_.resize(values);
    for (int64_t r = 0; r < run.count; ++r) {
      const int64_t row = index.empty() ? r : index[static_cast<size_t>(run.swap_row + r)];
      std::copy_n(from + row * hidden_size_, hidden_size_, staged_.data() + r * hidden_size_);
    }
    exchange::RoundToWire(swap.header.format.dtype, absl::MakeSpan(staged_));
    from = staged_.data();
  }
  return device().CopyFromHost(from, to, values * sizeof(float));
}

absl::Status PassMemory::TakeIn(absl::Span<const WaitingSwap> swaps,
                                absl::Span<const RowRun> runs) {
  for (const RowRun& run : runs) {
    const exchange::Swap& swap = swaps[run.swap].swap;
    float* const to = rows_.f32() + run.pass_row * hidden_size_;
    if (!swap.rows.block.on_device()) {
      CCOE_RETURN_IF_ERROR(TakeInHostRows(swap, run, to));
      continue;
    }
    exchange::CopyRows(*ops_, swap.rows.block.Rows(hidden_size_).Slice(run.swap_row, run.count),
                       kernels::F32Matrix(to, run.count, hidden_size_));
  }
  return absl::OkStatus();
}

PassResults::PassResults(absl::Span<const WaitingSwap> swaps, int64_t hidden_size)
    : hidden_size_(hidden_size), results_(swaps.size()), device_rows_(swaps.size()) {
  for (size_t i = 0; i < swaps.size(); ++i) {
    const exchange::SwapHeader& header = swaps[i].header();
    const exchange::RowBlock& sent = swaps[i].swap.rows.block;
    exchange::SwapResult& result = results_[i];
    result.verdicts = swaps[i].verdicts;
    result.captured.resize(static_cast<size_t>(header.captured_rows() * hidden_size));
    const int64_t returned = exchange::ReturnedRows(header, result);
    if (sent.on_device() && returned > 0) {
      auto fresh = sent.memory()->Take(returned, hidden_size, header.format.dtype);
      if (fresh.ok()) {
        device_rows_[i] = fresh->rows;
        result.device_rows = std::move(fresh->block);
        continue;
      }
    }
    result.rows.resize(static_cast<size_t>(returned * hidden_size));
  }
}

absl::Status PassResults::Give(kernels::ConstMatrix rows, absl::Span<const RowRun> runs,
                               kernels::Ops& ops) {
  for (const RowRun& run : runs) {
    const kernels::Matrix& to = device_rows_[run.swap];
    if (to.empty()) continue;
    exchange::CopyRows(ops, rows.Slice(run.pass_row, run.count), to.Slice(run.swap_row, run.count));
  }
  CCOE_RETURN_IF_ERROR(ops.Synchronize());
  for (const RowRun& run : runs) {
    if (!device_rows_[run.swap].empty()) continue;
    CCOE_RETURN_IF_ERROR(
        ops.device().CopyToHost(rows.Slice(run.pass_row, run.count).data,
                                results_[run.swap].rows.data() + run.swap_row * hidden_size_,
                                static_cast<size_t>(run.count * hidden_size_) * sizeof(float)));
  }
  return absl::OkStatus();
}

kernels::OpShapes ShapesOf(const model::ModelSpec& spec, const UnitHostOptions& options) {
  kernels::OpShapes shapes;
  if (options.layer_experts) {
    model::PassLimits limits;
    limits.rows = limits.sequences = options.max_batch_rows;
    limits.tokens = options.kv_tokens;
    limits.page_tokens = options.page_tokens;
    shapes = model::ShapesOfPasses(spec, limits);
  }
  if (options.ffn_experts) {
    const kernels::OpShapes ffn = model::ShapesOfExperts(spec, options.max_batch_pairs);
    shapes.experts.insert(shapes.experts.end(), ffn.experts.begin(), ffn.experts.end());
  }
  return shapes;
}

PassMemory::Limits PassLimitsOf(const UnitHostOptions& options) {
  return {options.layer_experts ? options.max_batch_rows : 0,
          options.ffn_experts ? options.max_batch_pairs : 0};
}

model::KvStorageOptions KvOptionsOf(const UnitHostOptions& options, model::LayerRange layers) {
  const int64_t pages = (options.kv_tokens + options.page_tokens - 1) / options.page_tokens;
  return {layers, pages, options.page_tokens, options.kv_dtype};
}

UnitQueue::Options QueueOptionsOf(const UnitHostOptions& options) {
  return {options.max_batch_rows, options.max_batch_pairs, options.max_waiting_swaps,
          options.max_waiting_bytes};
}

absl::Status Check(const UnitHostOptions& options) {
  const std::pair<const char*, int64_t> counts[] = {
      {"kv_tokens", options.kv_tokens},
      {"page_tokens", options.page_tokens},
      {"max_batch_rows", options.max_batch_rows},
      {"max_batch_pairs", options.max_batch_pairs},
      {"max_waiting_swaps", options.max_waiting_swaps},
      {"max_waiting_bytes", options.max_waiting_bytes}};
  for (const auto& [name, count] : counts) {
    if (count < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("unit host: ", name, ": expected 1 or more, found ", count));
    }
  }
  if (options.layer_experts || options.ffn_experts) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "unit host: expected layer experts or FFN experts, found neither");
}

}  // namespace ccoe::experts
