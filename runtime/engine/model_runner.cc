// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/model_runner.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/moe_statistics.h"
#include "runtime/exchange/row_block.h"
#include "runtime/model/memory_plan.h"

namespace ccoe::engine {
namespace {

// 0 where no layer has FFN experts.
int64_t MostExpertsOfARow(const BackboneModel& model) {
  int64_t most = 0;
  const model::LayerRange layers = model.decoder->layers();
  for (int32_t layer = layers.first; layer < layers.last; ++layer) {
    const model::FfnSpec& ffn = model.spec.layers[static_cast<size_t>(layer)].ffn;
    if (ffn.is_moe()) most = std::max(most, ffn.moe.gate.top_k);
  }
  return most;
}

}  // namespace

absl::StatusOr<kernels::Matrix> RowBuffer::Take(int64_t rows, int64_t cols) {
  const size_t needed = static_cast<size_t>(rows) * cols * sizeof(float);
  if (buffer_.size_bytes() < needed) {
    buffer_ = kernels::Buffer();
    CCOE_ASSIGN_OR_RETURN(buffer_, device_->Allocate(needed));
  }
  return kernels::F32Matrix(buffer_.f32(), rows, cols);
}

ModelRunner::ModelRunner(BackboneModel model, std::unique_ptr<kernels::Ops> ops)
    : model_(std::move(model)),
      ops_(std::move(ops)),
      scratch_(&ops_->device()),
      gathered_buffer_(&ops_->device()),
      logits_buffer_(&ops_->device()),
      contributions_buffer_(&ops_->device()),
      upload_buffer_(&ops_->device()),
      now_(&ops_->device()) {}

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Create(BackboneModel model,
                                                                 std::unique_ptr<kernels::Ops> ops,
                                                                 int64_t pages, int64_t page_tokens,
                                                                 kernels::DType kv_dtype,
                                                                 const BatchLimits& limits) {
  std::unique_ptr<ModelRunner> runner(new ModelRunner(std::move(model), std::move(ops)));
  model::KvStorageOptions options;
  options.layers = runner->model_.decoder->layers();
  options.pages = pages;
  options.page_tokens = page_tokens;
  options.dtype = kv_dtype;
  CCOE_ASSIGN_OR_RETURN(
      runner->kv_, model::KvStorage::Create(&runner->ops_->device(), runner->model_.spec, options));
  CCOE_RETURN_IF_ERROR_IN(runner->Reserve(limits), "buffers of a backbone");
  return runner;
}

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Create(BackboneModel model,
                                                                 std::unique_ptr<kernels::Ops> ops,
                                                                 const EngineOptions& options) {
  BatchLimits limits;
  limits.max_rows = options.max_step_tokens;
  limits.suspended = options.max_steps_in_flight;
  return Create(std::move(model), std::move(ops), options.kv_tokens / options.page_tokens,
                options.page_tokens, options.kv_dtype, limits);
}

kernels::OpShapes ModelRunner::ShapesOf(const model::ModelSpec& spec,
                                        const EngineOptions& options) {
  model::PassLimits limits;
  limits.rows = options.max_step_tokens;
  limits.sequences = options.max_running;
  limits.head_rows = kMaxHeadRows;
  limits.tokens = options.kv_tokens;
  limits.page_tokens = options.page_tokens;
  return model::ShapesOfPasses(spec, limits);
}

absl::Status ModelRunner::Reserve(const BatchLimits& limits) {
  const int64_t rows = limits.max_rows;
  const int64_t pairs = rows * MostExpertsOfARow(model_);
  CCOE_RETURN_IF_ERROR(scratch_.ReservePasses(model_.spec, rows));
  CCOE_RETURN_IF_ERROR(gathered_buffer_.Take(rows, hidden_size()).status());
  CCOE_RETURN_IF_ERROR(logits_buffer_.Take(std::min(rows, kMaxHeadRows), vocab_size()).status());
  CCOE_RETURN_IF_ERROR(contributions_buffer_.Take(pairs, hidden_size()).status());
  if (!ops_->device().ReadsHostMemory()) {
    CCOE_RETURN_IF_ERROR(upload_buffer_.Take(pairs, hidden_size()).status());
  }
  CCOE_RETURN_IF_ERROR(ReserveParked(rows, pairs, now_));
  if (pairs == 0) return absl::OkStatus();
  for (int i = 0; i < limits.suspended; ++i) {
    CCOE_RETURN_IF_ERROR(ReserveParked(rows, pairs, idle_.emplace_back(NewBatchState())));
  }
  return absl::OkStatus();
}

absl::Status ModelRunner::ReserveParked(int64_t rows, int64_t pairs, BatchState& parked) {
  CCOE_RETURN_IF_ERROR(parked.hidden_buffer.Take(rows, hidden_size()).status());
  if (pairs == 0) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR(parked.shared_buffer.Take(rows, hidden_size()).status());
  CCOE_RETURN_IF_ERROR(parked.own_buffer.Take(pairs, hidden_size()).status());
  return parked.ended.Reserve(&ops_->device(), model_.spec, rows);
}

absl::Status ModelRunner::Wait() {
  model::MoeChoices& choices = scratch_.choices();
  const absl::Status status = ops_->Synchronize();
  in_use_.clear();
  if (!status.ok() || statistics_ == nullptr) {
    choices.Drop();
    return status;
  }
  return choices.Take(
      [this](int32_t layer, absl::Span<const int32_t> offsets, absl::Span<const int32_t> experts) {
        statistics_->Add(layer, offsets, experts);
      });
}

absl::Status ModelRunner::CountChoices() {
  return statistics_ == nullptr || scratch_.choices().empty() ? absl::OkStatus() : Wait();
}

absl::Status ModelRunner::Embed(absl::Span<const int32_t> ids) {
  now_.EndPass();
  CCOE_ASSIGN_OR_RETURN(now_.hidden,
                        now_.hidden_buffer.Take(static_cast<int64_t>(ids.size()), hidden_size()));
  return model_.embedding->Embed(ids, *ops_, now_.hidden);
}

absl::Status ModelRunner::Load(absl::Span<const exchange::RowBlock> blocks) {
  now_.EndPass();
  int64_t count = 0;
  bool from_host = false;
  for (const exchange::RowBlock& block : blocks) {
    count += block.values() / hidden_size();
    from_host = from_host || !block.on_device();
  }
  if (from_host) CCOE_RETURN_IF_ERROR(Wait());  // what ran before may still read the buffer
  CCOE_ASSIGN_OR_RETURN(now_.hidden, now_.hidden_buffer.Take(count, hidden_size()));
  auto* to = static_cast<float*>(now_.hidden.data);
  for (const exchange::RowBlock& block : blocks) {
    if (block.on_device()) {
      const kernels::ConstMatrix from = block.Rows(hidden_size());
      in_use_.push_back(block);
      exchange::CopyRows(*ops_, from, kernels::F32Matrix(to, from.rows, hidden_size()));
    } else {
      CCOE_RETURN_IF_ERROR(ops_->device().CopyFromHost(block.host().data(), to, block.bytes()));
    }
    to += block.values();
  }
  return absl::OkStatus();
}

bool ModelRunner::Holds(const exchange::RowMemory* memory) const {
  return memory != nullptr && memory->device() == &ops_->device();
}

absl::Status ModelRunner::Run(model::LayerRange range, const model::RowBatch& batch) {
  if (range.empty()) return absl::OkStatus();
  return model_.decoder->Run(range, batch, *kv_, *ops_, scratch_, now_.hidden);
}

absl::Status ModelRunner::Run(model::LayerRange range, const model::RowBatch& batch,
                              AfterLayer after_layer) {
  if (range.empty()) return absl::OkStatus();
  absl::Status first_error;
  const auto observer = [&](int32_t layer, kernels::ConstMatrix) {
    first_error.Update(after_layer(layer));
  };
  model::DecoderPass& pass = scratch_.pass();
  CCOE_ASSIGN_OR_RETURN(pass, model_.decoder->BeginPass(batch, *kv_, *ops_, std::move(pass)));
  CCOE_RETURN_IF_ERROR(
      model_.decoder->RunLayers(range, pass, *ops_, scratch_, now_.hidden, observer));
  return first_error;
}

absl::Status ModelRunner::Attend(int32_t layer, const model::RowBatch& batch) {
  if (!now_.pass.has_value()) {
    CCOE_ASSIGN_OR_RETURN(now_.pass,
                          model_.decoder->BeginPass(batch, *kv_, *ops_, std::move(now_.ended)));
  }
  now_.shared = now_.own = kernels::Matrix();
  return model_.decoder->RunAttention(layer, *now_.pass, *ops_, scratch_, now_.hidden);
}

absl::StatusOr<model::RoutedRows> ModelRunner::Route(int32_t layer,
                                                     const model::GateSteering* steering) {
  now_.pass->steering = steering;
  CCOE_ASSIGN_OR_RETURN(model::RoutedRows routed,
                        model_.decoder->Route(layer, *now_.pass, *ops_, scratch_, now_.hidden));
  now_.pass->steering = nullptr;
  CCOE_RETURN_IF_ERROR(CountChoices());  // the batch may be parked now
  in_use_.clear();                       // the choice is on the host, so all before it is done
  return routed;
}

absl::Status ModelRunner::RunHere(const FfnPart& part, const model::RoutedRows& routed) {
  std::vector<int32_t> rows, places(part.pairs.size());
  for (size_t i = 0; i < part.rows.size(); ++i) {
    rows.insert(rows.end(), part.swap.offsets[i + 1] - part.swap.offsets[i], part.rows[i]);
  }
  std::iota(places.begin(), places.end(), 0);
  const bool combine = part.swap.combine;
  RowBuffer& buffer = combine ? contributions_buffer_ : now_.own_buffer;
  CCOE_ASSIGN_OR_RETURN(now_.own, buffer.Take(part.swap.pairs(), hidden_size()));
  CCOE_RETURN_IF_ERROR(model_.decoder->RunHeldExperts(
      routed.layer, {routed.rows, rows, part.swap.experts, part.swap.weights, places}, *ops_,
      scratch_, now_.own));
  if (!combine) return absl::OkStatus();
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix combined,
                        now_.own_buffer.Take(part.swap.rows(), hidden_size()));
  ops_->CombineRows({now_.own, part.swap.offsets, combined});
  now_.own = combined;
  return absl::OkStatus();
}

absl::Status ModelRunner::RunShared(const model::RoutedRows& routed) {
  if (!model_.decoder->has_shared_expert(routed.layer)) return absl::OkStatus();
  CCOE_ASSIGN_OR_RETURN(now_.shared, now_.shared_buffer.Take(routed.rows.rows, hidden_size()));
  return model_.decoder->RunSharedExpert(routed.layer, routed.rows, *ops_, scratch_, now_.shared);
}

// `rows` [.., hidden_size] of host memory in `buffer`.
absl::StatusOr<kernels::Matrix> ModelRunner::Upload(absl::Span<const float> rows,
                                                    RowBuffer& buffer) {
  const int64_t count = static_cast<int64_t>(rows.size()) / hidden_size();
  CCOE_RETURN_IF_ERROR(Wait());  // the buffer may still be read by what ran before
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix device, buffer.Take(count, hidden_size()));
  CCOE_RETURN_IF_ERROR(
      ops_->device().CopyFromHost(rows.data(), device.data, rows.size() * sizeof(float)));
  return device;
}

// `rows` as the ops can read them.
absl::StatusOr<kernels::ConstMatrix> ModelRunner::OnDevice(const exchange::RowBlock& rows,
                                                           RowBuffer& buffer) {
  if (rows.on_device()) {
    in_use_.push_back(rows);
    return rows.Rows(hidden_size());
  }
  if (!ops_->device().ReadsHostMemory()) return Upload(rows.host(), buffer);
  return rows.Rows(hidden_size());
}

absl::Status ModelRunner::FinishMoe(int32_t layer, const Contributions& contributions) {
  // Nothing came from elsewhere and nothing is missing: what ran here lies in order.
  if (contributions.arrived.empty() && now_.own.rows == contributions.offsets.back()) {
    return model_.decoder->FinishMoe(layer, {now_.own, contributions.offsets}, now_.shared, *ops_,
                                     scratch_, now_.hidden);
  }
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix all,
                        contributions_buffer_.Take(
                            std::max<int64_t>(contributions.offsets.back(), 1), hidden_size()));
  if (!contributions.own_places.empty()) {
    ops_->ScatterRows(now_.own, contributions.own_places, all);
  }
  for (const ArrivedRows& part : contributions.arrived) {
    if (part.places.empty()) continue;
    CCOE_ASSIGN_OR_RETURN(const kernels::ConstMatrix rows, OnDevice(part.rows, upload_buffer_));
    ops_->ScatterRows(rows, part.places, all);
  }
  return model_.decoder->FinishMoe(layer, {all, contributions.offsets}, now_.shared, *ops_,
                                   scratch_, now_.hidden);
}

absl::StatusOr<BatchState> ModelRunner::Park() {
  if (idle_.empty()) return ParkOnHost();
  BatchState next = std::move(idle_.back());
  idle_.pop_back();
  return std::exchange(now_, std::move(next));
}

absl::StatusOr<BatchState> ModelRunner::ParkOnHost() {
  BatchState parked = NewBatchState();
  CCOE_RETURN_IF_ERROR(Wait());
  const auto download = [this](const kernels::Matrix& from, std::vector<float>& to) {
    to.resize(static_cast<size_t>(from.rows * from.cols));
    return ops_->device().CopyToHost(from.data, to.data(), to.size() * sizeof(float));
  };
  CCOE_RETURN_IF_ERROR(download(now_.hidden, parked.host_hidden));
  CCOE_RETURN_IF_ERROR(download(now_.shared, parked.host_shared));
  CCOE_RETURN_IF_ERROR(download(now_.own, parked.host_own));
  return parked;
}

absl::Status ModelRunner::Restore(BatchState rows) {
  now_.EndPass();
  if (rows.host_hidden.empty()) {
    idle_.push_back(std::exchange(now_, std::move(rows)));
    return absl::OkStatus();
  }
  CCOE_ASSIGN_OR_RETURN(now_.hidden, Upload(rows.host_hidden, now_.hidden_buffer));
  now_.shared = now_.own = kernels::Matrix();
  if (!rows.host_shared.empty()) {
    CCOE_ASSIGN_OR_RETURN(now_.shared, Upload(rows.host_shared, now_.shared_buffer));
  }
  if (!rows.host_own.empty()) {
    CCOE_ASSIGN_OR_RETURN(now_.own, Upload(rows.host_own, now_.own_buffer));
  }
  return absl::OkStatus();
}

absl::StatusOr<kernels::Matrix> ModelRunner::Gather(kernels::ConstMatrix from,
                                                    absl::Span<const int32_t> rows) {
  CCOE_ASSIGN_OR_RETURN(kernels::Matrix gathered,
                        gathered_buffer_.Take(static_cast<int64_t>(rows.size()), hidden_size()));
  ops_->GatherRows(from, rows, gathered);
  return gathered;
}

absl::Status ModelRunner::Keep(absl::Span<const int32_t> rows) {
  CCOE_ASSIGN_OR_RETURN(now_.hidden, Gather(now_.hidden, rows));
  std::swap(now_.hidden_buffer, gathered_buffer_);
  now_.EndPass();
  return absl::OkStatus();
}

absl::Status ModelRunner::Read(int64_t begin, int64_t count, float* out) {
  CCOE_CHECK(begin >= 0 && begin + count <= now_.hidden.rows);
  CCOE_RETURN_IF_ERROR(Wait());
  return ops_->device().CopyToHost(now_.hidden.Row(begin), out,
                                   count * hidden_size() * sizeof(float));
}

absl::Status ModelRunner::Read(kernels::ConstMatrix from, absl::Span<const int32_t> rows,
                               std::vector<float>& out) {
  out.resize(rows.size() * hidden_size());
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix gathered, Gather(from, rows));
  CCOE_RETURN_IF_ERROR(Wait());
  return ops_->device().CopyToHost(gathered.data, out.data(), out.size() * sizeof(float));
}

absl::Status ModelRunner::Read(absl::Span<const int32_t> rows, std::vector<float>& out) {
  return Read(now_.hidden, rows, out);
}

absl::StatusOr<exchange::RowBlock> ModelRunner::HandOver(absl::Span<const int32_t> rows,
                                                         const RowForm& form) {
  return HandOver(now_.hidden, rows, form);
}

absl::StatusOr<exchange::RowBlock> ModelRunner::HandOver(kernels::ConstMatrix from,
                                                         absl::Span<const int32_t> rows,
                                                         const RowForm& form) {
  if (Holds(form.memory)) {
    auto fresh = form.memory->Take(static_cast<int64_t>(rows.size()), hidden_size(), form.dtype);
    if (fresh.ok()) {
      ops_->GatherRows(from, rows, fresh->rows);
      in_use_.push_back(fresh->block);
      return std::move(fresh->block);
    }
  }
  std::vector<float> values;
  CCOE_RETURN_IF_ERROR(Read(from, rows, values));
  return exchange::RowBlock(std::move(values));
}

absl::Status ModelRunner::Logits(const model::LmHead& head, absl::Span<const int32_t> rows) {
  logits_ = kernels::Matrix();
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix gathered, Gather(now_.hidden, rows));
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix logits,
                        logits_buffer_.Take(static_cast<int64_t>(rows.size()), vocab_size()));
  CCOE_RETURN_IF_ERROR(head.Logits(gathered, *ops_, gathered, logits));
  logits_ = logits;
  return absl::OkStatus();
}

absl::Status ModelRunner::ReadLogits(int64_t begin, int64_t count, std::vector<float>& out) {
  CCOE_CHECK(begin >= 0 && begin + count <= logits_.rows);
  CCOE_RETURN_IF_ERROR(Wait());
  out.resize(static_cast<size_t>(count * vocab_size()));
  return ops_->device().CopyToHost(logits_.Row(begin), out.data(), out.size() * sizeof(float));
}

absl::Status ModelRunner::Sample(int64_t begin, absl::Span<const kernels::SampleRow> rows,
                                 absl::Span<kernels::SampledRow> out) {
  const auto count = static_cast<int64_t>(rows.size());
  CCOE_CHECK(begin >= 0 && begin + count <= logits_.rows);
  CCOE_RETURN_IF_ERROR(ops_->SampleRows({logits_.Slice(begin, count), rows}, out));
  in_use_.clear();  // the device has been waited for
  return CountChoices();
}

}  // namespace ccoe::engine
