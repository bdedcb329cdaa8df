// SPDX-License-Identifier: Apache-2.0
#include "tools/gpu_probe/probe_model.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "kernels/cuda/stream.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/memory_plan.h"
#include "tools/gpu_probe/device_fill.h"

namespace ccoe::probe {
namespace {

using kernels::DType;

kernels::Matrix Rows(const kernels::Buffer& buffer, int64_t rows, int64_t cols) {
  return kernels::F32Matrix(buffer.f32(), rows, cols);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProbeModel>> ProbeModel::Create(Probe* probe,
                                                               const ProbeModelOptions& options) {
  std::unique_ptr<ProbeModel> model(new ProbeModel(options));
  CCOE_RETURN_IF_ERROR(model->Init(probe));
  return model;
}

absl::Status ProbeModel::Init(Probe* probe) {
  CCOE_ASSIGN_OR_RETURN(spec_, model::RandomModelSpec(options_.shape));
  CCOE_ASSIGN_OR_RETURN(kernels::Device* const device, probe->Device());
  CCOE_RETURN_IF_ERROR(MakeOps(probe));
  CCOE_RETURN_IF_ERROR(MakeWeights(device));
  return MakeBuffers(device);
}

absl::Status ProbeModel::MakeOps(Probe* probe) {
  model::PassLimits limits;
  limits.rows = options_.rows;
  limits.sequences = options_.sequences;
  limits.head_rows = options_.sequences;
  limits.tokens = std::max(options_.tokens, options_.first_tokens);
  limits.page_tokens = kPage;
  kernels::CudaOptions options;
  options.math = DType::kBF16;
  CCOE_RETURN_IF_ERROR(kernels::FitCudaOptions(model::ShapesOfPasses(spec_, limits), &options));
  if (!options_.captured) options.graph_bytes = 0;
  CCOE_ASSIGN_OR_RETURN(ops_, probe->MakeOps(options));
  return absl::OkStatus();
}

// Nothing is read or copied: memory is taken for each tensor, then filled where it lies.
absl::Status ProbeModel::MakeWeights(kernels::Device* device) {
  const std::vector<model::RandomTensor> tensors = model::RandomTensors(spec_);
  std::map<std::string, model::TensorView> views;
  for (const model::RandomTensor& tensor : tensors) {
    views[tensor.name] = {nullptr, DType::kBF16, tensor.shape,
                          static_cast<size_t>(tensor.elements()) * 2};
  }
  model::WeightTarget target;
  target.device = device;
  target.fill = false;
  weights_ = model::Weights::On(model::Weights::Of(views), target);
  CCOE_ASSIGN_OR_RETURN(decoder_,
                        model::Decoder::Create(spec_, {0, spec_.layer_count()}, weights_));
  CCOE_ASSIGN_OR_RETURN(embedding_, model::TokenEmbedding::Create(spec_, weights_));
  CCOE_ASSIGN_OR_RETURN(head_, model::LmHead::Create(spec_, weights_));
  CCOE_ASSIGN_OR_RETURN(const auto stream, kernels::Stream::Create({}));
  FillParams fill;
  kernels::ClearParams(&fill);
  for (const model::RandomTensor& tensor : tensors) {
    auto bound = tensor.shape.size() == 1
                     ? weights_->Vector(tensor.name, tensor.shape[0])
                     : weights_->Matrix(tensor.name, tensor.shape[0], tensor.shape[1]);
    CCOE_RETURN_IF_ERROR(bound.status());
    fill.data = const_cast<void*>(bound->data);
    fill.count = tensor.elements();
    fill.dtype = bound->dtype;
    fill.mean = tensor.mean;
    fill.deviation = tensor.deviation;
    ++fill.seed;
    FillOnDevice(stream.get(), fill);
  }
  return stream->Synchronize();
}

absl::Status ProbeModel::MakeBuffers(kernels::Device* device) {
  const int64_t pages = (options_.tokens + kPage - 1) / kPage;
  const int64_t of_first = std::max(pages, (options_.first_tokens + kPage - 1) / kPage);
  model::KvStorageOptions kv;
  kv.layers = {0, spec_.layer_count()};
  kv.pages = std::max(pages * options_.sequences, of_first);
  kv.page_tokens = kPage;
  kv.dtype = DType::kBF16;
  CCOE_ASSIGN_OR_RETURN(kv_, model::KvStorage::Create(device, spec_, kv));
  for (int64_t s = 0; s < options_.sequences; ++s) {
    std::vector<int32_t>& table = tables_.emplace_back();
    for (int64_t p = 0; p < (s == 0 ? of_first : pages); ++p) {
      table.push_back(static_cast<int32_t>(s * pages + p));
    }
  }
  scratch_ = std::make_unique<model::DecoderScratch>(device);
  CCOE_RETURN_IF_ERROR(scratch_->ReservePasses(spec_, options_.rows));
  const size_t row = static_cast<size_t>(spec_.hidden_size) * sizeof(float);
  const size_t logits = static_cast<size_t>(spec_.vocab_size) * sizeof(float);
  CCOE_ASSIGN_OR_RETURN(hidden_, device->Allocate(row * options_.rows));
  CCOE_ASSIGN_OR_RETURN(last_, device->Allocate(row * options_.sequences));
  CCOE_ASSIGN_OR_RETURN(normed_, device->Allocate(row * options_.sequences));
  CCOE_ASSIGN_OR_RETURN(logits_, device->Allocate(logits * options_.sequences));
  return absl::OkStatus();
}

absl::Status ProbeModel::Embed(int64_t rows) {
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) {
    ids[i] = static_cast<int32_t>((i * 7919 + position_ * 104729) % spec_.vocab_size);
  }
  return embedding_->Embed(ids, *ops_, Rows(hidden_, rows, spec_.hidden_size));
}

absl::Status ProbeModel::Step(int64_t sequences, int64_t tokens) {
  const int64_t rows = sequences * tokens;
  const int64_t most =
      sequences == 1 ? std::max(options_.tokens, options_.first_tokens) : options_.tokens;
  if (sequences > options_.sequences || rows > options_.rows || position_ + tokens > most) {
    return absl::InvalidArgumentError("probe model: a step beyond what it was made for");
  }
  model::RowBatch batch;
  for (int64_t s = 0; s < sequences; ++s) {
    batch.sequences.push_back({s * tokens, tokens, position_, tables_[s]});
  }
  CCOE_RETURN_IF_ERROR(Embed(rows));
  CCOE_RETURN_IF_ERROR(decoder_->Run(decoder_->layers(), batch, *kv_, *ops_, *scratch_,
                                     Rows(hidden_, rows, spec_.hidden_size)));
  CCOE_RETURN_IF_ERROR(Head(batch));
  position_ += tokens;
  return absl::OkStatus();
}

absl::Status ProbeModel::Head(const model::RowBatch& batch) {
  const auto sequences = static_cast<int64_t>(batch.sequences.size());
  std::vector<int32_t> last;
  for (const kernels::SequenceRows& sequence : batch.sequences) {
    last.push_back(static_cast<int32_t>(sequence.row_begin + sequence.row_count - 1));
  }
  const kernels::Matrix rows = Rows(last_, sequences, spec_.hidden_size);
  const kernels::Matrix logits = Rows(logits_, sequences, spec_.vocab_size);
  ops_->GatherRows(Rows(hidden_, batch.rows(), spec_.hidden_size), last, rows);
  CCOE_RETURN_IF_ERROR(
      head_->Logits(rows, *ops_, Rows(normed_, sequences, spec_.hidden_size), logits));
  const std::vector<kernels::SampleRow> greedy(static_cast<size_t>(sequences));
  std::vector<kernels::SampledRow> chosen(static_cast<size_t>(sequences));
  kernels::SampleRowsArgs args;
  args.logits = logits;
  args.rows = greedy;
  CCOE_RETURN_IF_ERROR(ops_->SampleRows(args, absl::MakeSpan(chosen)));
  for (const kernels::SampledRow& row : chosen) {
    if (row.token_id < 0) return absl::InternalError("probe model: logits that are no numbers");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> ProbeModel::Logits(int64_t sequences) {
  std::vector<float> values(static_cast<size_t>(sequences * spec_.vocab_size));
  CCOE_RETURN_IF_ERROR(ops_->Synchronize());
  CCOE_RETURN_IF_ERROR(
      ops_->device().CopyToHost(logits_.data(), values.data(), values.size() * sizeof(float)));
  return values;
}

}  // namespace ccoe::probe
