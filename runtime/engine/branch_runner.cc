#include "runtime/engine/branch_runner.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/row_copy.h"

namespace ccoe::engine {

absl::StatusOr<kernels::Matrix> RowBuffer::Take(int64_t rows, int64_t cols) {
  const size_t needed = static_cast<size_t>(rows) * cols * sizeof(float);
  if (buffer_.size_bytes() < needed) {
    const size_t size = std::max(needed, 2 * buffer_.size_bytes());
    buffer_ = kernels::Buffer();
    CCOE_ASSIGN_OR_RETURN(buffer_, device_->Allocate(size));
  }
  return kernels::F32Matrix(buffer_.f32(), rows, cols);
}

BranchRunner::BranchRunner(BackboneModel model, std::unique_ptr<kernels::Ops> ops)
    : model_(std::move(model)),
      ops_(std::move(ops)),
      scratch_(&ops_->device()),
      gathered_buffer_(&ops_->device()),
      logits_buffer_(&ops_->device()),
      contributions_buffer_(&ops_->device()),
      upload_buffer_(&ops_->device()),
      now_(&ops_->device()) {}

absl::StatusOr<std::unique_ptr<BranchRunner>> BranchRunner::Create(
    BackboneModel model, std::unique_ptr<kernels::Ops> ops, int64_t pages, int64_t page_tokens,
    kernels::DType kv_dtype) {
  std::unique_ptr<BranchRunner> runner(new BranchRunner(std::move(model), std::move(ops)));
  model::KvStorageOptions options;
  options.layers = runner->model_.decoder->layers();
  options.pages = pages;
  options.page_tokens = page_tokens;
  options.dtype = kv_dtype;
  CCOE_ASSIGN_OR_RETURN(
      runner->kv_, model::KvStorage::Create(&runner->ops_->device(), runner->model_.spec, options));
  return runner;
}

absl::Status BranchRunner::Embed(absl::Span<const int32_t> ids) {
  now_.EndPass();
  CCOE_ASSIGN_OR_RETURN(now_.hidden,
                        now_.hidden_buffer.Take(static_cast<int64_t>(ids.size()), hidden_size()));
  return model_.embedding->Embed(ids, *ops_, now_.hidden);
}

absl::Status BranchRunner::Load(const exchange::RowBlock& rows) {
  now_.EndPass();
  const kernels::ConstMatrix from = rows.Rows(hidden_size());
  CCOE_ASSIGN_OR_RETURN(now_.hidden, now_.hidden_buffer.Take(from.rows, hidden_size()));
  if (rows.on_device()) {
    in_use_.push_back(rows);
    exchange::CopyRows(*ops_, from, now_.hidden);
    return absl::OkStatus();
  }
  CCOE_RETURN_IF_ERROR(Wait());  // the buffer may still be read by what ran before
  return ops_->device().CopyFromHost(from.data, now_.hidden.data, rows.bytes());
}

absl::Status BranchRunner::Wait() {
  const absl::Status done = ops_->Synchronize();
  in_use_.clear();
  return done;
}

bool BranchRunner::Holds(const exchange::RowMemory* memory) const {
  return memory != nullptr && memory->device() == &ops_->device();
}

absl::Status BranchRunner::Run(model::LayerRange range, const model::RowBatch& batch) {
  if (range.empty()) return absl::OkStatus();
  return model_.decoder->Run(range, batch, *kv_, *ops_, scratch_, now_.hidden);
}

absl::Status BranchRunner::Run(model::LayerRange range, const model::RowBatch& batch,
                               AfterLayer after_layer) {
  if (range.empty()) return absl::OkStatus();
  absl::Status first_error;
  const auto observer = [&](int32_t layer, kernels::ConstMatrix) {
    first_error.Update(after_layer(layer));
  };
  CCOE_RETURN_IF_ERROR(
      model_.decoder->Run(range, batch, *kv_, *ops_, scratch_, now_.hidden, observer));
  return first_error;
}

absl::Status BranchRunner::Attend(int32_t layer, const model::RowBatch& batch) {
  if (!now_.pass.has_value()) {
    CCOE_ASSIGN_OR_RETURN(now_.pass,
                          model_.decoder->BeginPass(batch, *kv_, *ops_, std::move(now_.ended)));
  }
  now_.shared = now_.own = kernels::Matrix();
  return model_.decoder->RunAttention(layer, *now_.pass, *ops_, scratch_, now_.hidden);
}

absl::StatusOr<model::RoutedRows> BranchRunner::Route(int32_t layer,
                                                      const model::GateSteering* steering) {
  now_.pass->steering = steering;
  CCOE_ASSIGN_OR_RETURN(model::RoutedRows routed,
                        model_.decoder->Route(layer, *now_.pass, *ops_, scratch_, now_.hidden));
  now_.pass->steering = nullptr;
  in_use_.clear();  // the choice is on the host, so all before it is done
  return routed;
}

absl::Status BranchRunner::RunHere(const FfnPart& part, const model::RoutedRows& routed) {
  std::vector<int32_t> rows, places(part.pairs.size());
  for (size_t i = 0; i < part.rows.size(); ++i) {
    rows.insert(rows.end(), part.dispatch.offsets[i + 1] - part.dispatch.offsets[i], part.rows[i]);
  }
  std::iota(places.begin(), places.end(), 0);
  CCOE_ASSIGN_OR_RETURN(now_.own, now_.own_buffer.Take(part.dispatch.pairs(), hidden_size()));
  CCOE_RETURN_IF_ERROR(model_.decoder->RunHeldExperts(
      routed.layer, {rows, part.dispatch.experts, part.dispatch.weights, places}, routed.rows,
      *ops_, scratch_, now_.own));
  return part.dispatch.combine ? CombineOwn(part) : absl::OkStatus();
}

absl::Status BranchRunner::CombineOwn(const FfnPart& part) {
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix combined,
                        gathered_buffer_.Take(part.dispatch.rows(), hidden_size()));
  ops_->CombineRows({now_.own, part.dispatch.offsets, combined});
  std::swap(now_.own_buffer, gathered_buffer_);
  now_.own = combined;
  return absl::OkStatus();
}

absl::Status BranchRunner::RunShared(const model::RoutedRows& routed) {
  if (!model_.decoder->has_shared_expert(routed.layer)) return absl::OkStatus();
  CCOE_ASSIGN_OR_RETURN(now_.shared, now_.shared_buffer.Take(routed.rows.rows, hidden_size()));
  return model_.decoder->RunSharedExpert(routed.layer, routed.rows, *ops_, scratch_, now_.shared);
}

// `rows` as the ops can read them.
absl::StatusOr<kernels::ConstMatrix> BranchRunner::OnDevice(const exchange::RowBlock& rows,
                                                            RowBuffer& buffer) {
  const kernels::ConstMatrix from = rows.Rows(hidden_size());
  if (rows.on_device()) {
    in_use_.push_back(rows);
    return from;
  }
  if (ops_->device().ReadsHostMemory()) return from;
  CCOE_RETURN_IF_ERROR(Wait());  // the buffer may still be read
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix device, buffer.Take(from.rows, hidden_size()));
  CCOE_RETURN_IF_ERROR(ops_->device().CopyFromHost(from.data, device.data, rows.bytes()));
  return device;
}

absl::Status BranchRunner::FinishMoe(int32_t layer, const Contributions& contributions) {
  // Nothing came from elsewhere and nothing is missing: what ran here lies in order.
  if (contributions.arrived.empty() && now_.own.rows == contributions.offsets.back()) {
    return model_.decoder->FinishMoe(layer, now_.own, contributions.offsets, now_.shared, *ops_,
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
  return model_.decoder->FinishMoe(layer, all, contributions.offsets, now_.shared, *ops_, scratch_,
                                   now_.hidden);
}

ParkedRows BranchRunner::Park() {
  ParkedRows fresh(&ops_->device());
  if (!idle_.empty()) {
    fresh = std::move(idle_.back());
    idle_.pop_back();
  }
  return std::exchange(now_, std::move(fresh));
}

void BranchRunner::Restore(ParkedRows rows) {
  now_.EndPass();
  idle_.push_back(std::exchange(now_, std::move(rows)));
}

absl::StatusOr<kernels::Matrix> BranchRunner::Gather(kernels::ConstMatrix from,
                                                     absl::Span<const int32_t> rows) {
  CCOE_ASSIGN_OR_RETURN(kernels::Matrix gathered,
                        gathered_buffer_.Take(static_cast<int64_t>(rows.size()), hidden_size()));
  ops_->GatherRows(from, rows, gathered);
  return gathered;
}

absl::Status BranchRunner::Keep(absl::Span<const int32_t> rows) {
  CCOE_ASSIGN_OR_RETURN(now_.hidden, Gather(now_.hidden, rows));
  std::swap(now_.hidden_buffer, gathered_buffer_);
  now_.EndPass();
  return absl::OkStatus();
}

absl::Status BranchRunner::Read(int64_t begin, int64_t count, float* out) {
  CCOE_CHECK(begin >= 0 && begin + count <= now_.hidden.rows);
  CCOE_RETURN_IF_ERROR(Wait());
  return ops_->device().CopyToHost(now_.hidden.Row(begin), out,
                                   count * hidden_size() * sizeof(float));
}

absl::Status BranchRunner::Read(kernels::ConstMatrix from, absl::Span<const int32_t> rows,
                                std::vector<float>& out) {
  out.resize(rows.size() * hidden_size());
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix gathered, Gather(from, rows));
  CCOE_RETURN_IF_ERROR(Wait());
  return ops_->device().CopyToHost(gathered.data, out.data(), out.size() * sizeof(float));
}

absl::Status BranchRunner::Read(absl::Span<const int32_t> rows, std::vector<float>& out) {
  return Read(now_.hidden, rows, out);
}

absl::StatusOr<exchange::RowBlock> BranchRunner::HandOver(absl::Span<const int32_t> rows,
                                                          const RowForm& form) {
  return HandOver(now_.hidden, rows, form);
}

absl::StatusOr<exchange::RowBlock> BranchRunner::HandOver(kernels::ConstMatrix from,
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

absl::Status BranchRunner::Logits(const model::LmHead& head, absl::Span<const int32_t> rows,
                                  std::vector<float>& logits) {
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix gathered, Gather(now_.hidden, rows));
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix device_logits,
                        logits_buffer_.Take(static_cast<int64_t>(rows.size()), vocab_size()));
  CCOE_RETURN_IF_ERROR(head.Logits(gathered, *ops_, gathered, device_logits));
  CCOE_RETURN_IF_ERROR(Wait());
  logits.resize(rows.size() * vocab_size());
  return ops_->device().CopyToHost(device_logits.data, logits.data(),
                                   logits.size() * sizeof(float));
}

}  // namespace ccoe::engine
