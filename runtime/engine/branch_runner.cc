#include "runtime/engine/branch_runner.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

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
      hidden_buffer_(&ops_->device()),
      gathered_buffer_(&ops_->device()),
      logits_buffer_(&ops_->device()) {}

absl::StatusOr<std::unique_ptr<BranchRunner>> BranchRunner::Create(
    BackboneModel model, std::unique_ptr<kernels::Ops> ops, int64_t pages, int64_t page_tokens) {
  std::unique_ptr<BranchRunner> runner(new BranchRunner(std::move(model), std::move(ops)));
  model::KvStorageOptions options;
  options.layers = runner->model_.decoder->layers();
  options.pages = pages;
  options.page_tokens = page_tokens;
  CCOE_ASSIGN_OR_RETURN(
      runner->kv_, model::KvStorage::Create(&runner->ops_->device(), runner->model_.spec, options));
  return runner;
}

absl::Status BranchRunner::Embed(absl::Span<const int32_t> ids) {
  CCOE_ASSIGN_OR_RETURN(hidden_,
                        hidden_buffer_.Take(static_cast<int64_t>(ids.size()), hidden_size()));
  return model_.embedding->Embed(ids, *ops_, hidden_);
}

absl::Status BranchRunner::Load(absl::Span<const float> rows) {
  CCOE_ASSIGN_OR_RETURN(
      hidden_,
      hidden_buffer_.Take(static_cast<int64_t>(rows.size()) / hidden_size(), hidden_size()));
  CCOE_RETURN_IF_ERROR(ops_->Synchronize());  // the buffer may still be read by what ran before
  return ops_->device().CopyFromHost(rows.data(), hidden_.data, rows.size() * sizeof(float));
}

absl::Status BranchRunner::Run(model::LayerRange range, const model::RowBatch& batch) {
  if (range.empty()) return absl::OkStatus();
  return model_.decoder->Run(range, batch, *kv_, *ops_, scratch_, hidden_);
}

absl::Status BranchRunner::Run(model::LayerRange range, const model::RowBatch& batch,
                               AfterLayer after_layer) {
  if (range.empty()) return absl::OkStatus();
  absl::Status first_error;
  const auto observer = [&](int32_t layer, kernels::ConstMatrix) {
    first_error.Update(after_layer(layer));
  };
  CCOE_RETURN_IF_ERROR(model_.decoder->Run(range, batch, *kv_, *ops_, scratch_, hidden_, observer));
  return first_error;
}

absl::StatusOr<kernels::Matrix> BranchRunner::Gather(absl::Span<const int32_t> rows) {
  CCOE_ASSIGN_OR_RETURN(kernels::Matrix gathered,
                        gathered_buffer_.Take(static_cast<int64_t>(rows.size()), hidden_size()));
  ops_->GatherRows(hidden_, rows, gathered);
  return gathered;
}

absl::Status BranchRunner::Keep(absl::Span<const int32_t> rows) {
  CCOE_ASSIGN_OR_RETURN(hidden_, Gather(rows));
  std::swap(hidden_buffer_, gathered_buffer_);
  return absl::OkStatus();
}

absl::Status BranchRunner::Read(int64_t begin, int64_t count, float* out) {
  CCOE_CHECK(begin >= 0 && begin + count <= hidden_.rows);
  CCOE_RETURN_IF_ERROR(ops_->Synchronize());
  return ops_->device().CopyToHost(hidden_.Row(begin), out, count * hidden_size() * sizeof(float));
}

absl::Status BranchRunner::Read(absl::Span<const int32_t> rows, std::vector<float>& out) {
  out.resize(rows.size() * hidden_size());
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix gathered, Gather(rows));
  CCOE_RETURN_IF_ERROR(ops_->Synchronize());
  return ops_->device().CopyToHost(gathered.data, out.data(), out.size() * sizeof(float));
}

absl::Status BranchRunner::Logits(const model::LmHead& head, absl::Span<const int32_t> rows,
                                  std::vector<float>& logits) {
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix gathered, Gather(rows));
  CCOE_ASSIGN_OR_RETURN(const kernels::Matrix device_logits,
                        logits_buffer_.Take(static_cast<int64_t>(rows.size()), vocab_size()));
  CCOE_RETURN_IF_ERROR(head.Logits(gathered, *ops_, gathered, device_logits));
  CCOE_RETURN_IF_ERROR(ops_->Synchronize());
  logits.resize(rows.size() * vocab_size());
  return ops_->device().CopyToHost(device_logits.data, logits.data(),
                                   logits.size() * sizeof(float));
}

}  // namespace ccoe::engine
