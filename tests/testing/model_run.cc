// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/model_run.h"

#include <algorithm>
#include <utility>

#include "kernels/cpu/cpu_ops.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/hf_config.h"

namespace ccoe::testing {
namespace {

void Append(const std::vector<float>& from, std::vector<float>& to) {
  to.insert(to.end(), from.begin(), from.end());
}

int32_t ArgMaxOfLastRow(const std::vector<float>& logits, int64_t vocab) {
  return static_cast<int32_t>(std::max_element(logits.end() - vocab, logits.end()) -
                              (logits.end() - vocab));
}

}  // namespace

ModelRun::ModelRun(const model::ModelSpec& spec, const ModelRunOptions& options)
    : spec_(spec),
      device_(options.device),
      team_(options.threads),
      ops_(device_ == nullptr ? kernels::MakeCpuOps(&team_) : MakeTaggedOps(device_, &team_)) {}

std::shared_ptr<const model::Weights> ModelRun::Placed(
    std::shared_ptr<const model::Weights> weights) {
  if (weights == nullptr) return weights;
  model::WeightTarget target;
  target.device = device_;
  return model::Weights::On(std::move(weights), target);
}

absl::StatusOr<std::unique_ptr<ModelRun>> ModelRun::Open(const std::string& folder,
                                                         const ModelRunOptions& options) {
  CCOE_ASSIGN_OR_RETURN(const model::ModelSpec spec, model::LoadModelSpec(folder));
  CCOE_ASSIGN_OR_RETURN(auto weights, model::Weights::Open(folder));
  return Create(spec, std::move(weights), options);
}

absl::StatusOr<std::unique_ptr<ModelRun>> ModelRun::Create(
    const model::ModelSpec& spec, std::shared_ptr<const model::Weights> base,
    const ModelRunOptions& options, std::shared_ptr<const model::Weights> expert,
    int32_t expert_first, int32_t expert_last) {
  auto run = std::unique_ptr<ModelRun>(new ModelRun(spec, options));
  base = run->Placed(std::move(base));
  expert = run->Placed(std::move(expert));
  CCOE_ASSIGN_OR_RETURN(run->embedding_, model::TokenEmbedding::Create(spec, base));
  CCOE_ASSIGN_OR_RETURN(run->head_, model::LmHead::Create(spec, base, expert));
  const int64_t pages = (options.max_tokens + options.page_tokens - 1) / options.page_tokens;
  run->kv_options_.page_tokens = options.page_tokens;
  run->kv_options_.pages = pages;
  for (int64_t i = 0; i < pages; ++i)
    run->block_table_.push_back(static_cast<int32_t>(pages - 1 - i));
  for (size_t i = 0; i + 2 < run->block_table_.size(); i += 3)
    std::swap(run->block_table_[i], run->block_table_[i + 2]);
  const int32_t last = spec.layer_count();
  if (expert == nullptr) {
    CCOE_RETURN_IF_ERROR(run->AddStage({0, last}, base));
    return run;
  }
  const int32_t end = expert_last < 0 ? last : expert_last;
  if (expert_first > 0) CCOE_RETURN_IF_ERROR(run->AddStage({0, expert_first}, base));
  CCOE_RETURN_IF_ERROR(run->AddStage({expert_first, end}, expert));
  if (end < last) CCOE_RETURN_IF_ERROR(run->AddStage({end, last}, base));
  return run;
}

absl::Status ModelRun::AddStage(model::LayerRange layers,
                                std::shared_ptr<const model::Weights> weights) {
  Stage stage;
  CCOE_ASSIGN_OR_RETURN(stage.decoder, model::Decoder::Create(spec_, layers, std::move(weights)));
  kv_options_.layers = layers;
  CCOE_ASSIGN_OR_RETURN(stage.kv, model::KvStorage::Create(&ops_->device(), spec_, kv_options_));
  stages_.push_back(std::move(stage));
  return absl::OkStatus();
}

absl::StatusOr<RunOutput> ModelRun::Feed(absl::Span<const int32_t> ids) {
  const auto rows = static_cast<int64_t>(ids.size());
  kernels::Device& device = ops_->device();
  const size_t values = ids.size() * spec_.hidden_size;
  CCOE_ASSIGN_OR_RETURN(const kernels::Buffer hidden, device.Allocate(values * sizeof(float)));
  CCOE_ASSIGN_OR_RETURN(const kernels::Buffer normed, device.Allocate(values * sizeof(float)));
  CCOE_ASSIGN_OR_RETURN(const kernels::Buffer logits,
                        device.Allocate(ids.size() * spec_.vocab_size * sizeof(float)));
  const auto read = [&](const kernels::Buffer& from, std::vector<float>& to) {
    to.resize(from.size_bytes() / sizeof(float));
    absl::Status status = ops_->Synchronize();
    status.Update(device.CopyToHost(from.data(), to.data(), from.size_bytes()));
    return status;
  };
  RunOutput out;
  const kernels::Matrix view = kernels::F32Matrix(hidden.f32(), rows, spec_.hidden_size);
  CCOE_RETURN_IF_ERROR(embedding_->Embed(ids, *ops_, view));
  CCOE_RETURN_IF_ERROR(read(hidden, out.hidden.emplace_back()));

  model::RowBatch batch;
  batch.sequences.push_back({0, rows, position_, block_table_});
  model::DecoderScratch scratch(&device);
  absl::Status copied;
  const auto observe = [&](int32_t, kernels::ConstMatrix) {
    copied.Update(read(hidden, out.hidden.emplace_back()));
  };
  for (const Stage& stage : stages_) {
    CCOE_ASSIGN_OR_RETURN(const model::DecoderPass pass,
                          stage.decoder->BeginPass(batch, *stage.kv, *ops_));
    CCOE_RETURN_IF_ERROR(
        stage.decoder->RunLayers(stage.decoder->layers(), pass, *ops_, scratch, view, observe));
  }
  CCOE_RETURN_IF_ERROR(copied);
  position_ += rows;
  CCOE_RETURN_IF_ERROR(head_->Logits(view, *ops_,
                                     kernels::F32Matrix(normed.f32(), rows, spec_.hidden_size),
                                     kernels::F32Matrix(logits.f32(), rows, spec_.vocab_size)));
  CCOE_RETURN_IF_ERROR(read(normed, out.normed));
  CCOE_RETURN_IF_ERROR(read(logits, out.logits));
  return out;
}

absl::StatusOr<RunOutput> ModelRun::FeedInChunks(absl::Span<const int32_t> ids, size_t chunk) {
  RunOutput all;
  all.hidden.resize(spec_.layers.size() + 1);
  for (size_t begin = 0; begin < ids.size(); begin += chunk) {
    CCOE_ASSIGN_OR_RETURN(const RunOutput part, Feed(ids.subspan(begin, chunk)));
    Append(part.logits, all.logits);
    Append(part.normed, all.normed);
    for (size_t i = 0; i < all.hidden.size(); ++i) Append(part.hidden[i], all.hidden[i]);
  }
  return all;
}

absl::StatusOr<std::vector<int32_t>> ModelRun::Greedy(absl::Span<const int32_t> prompt, int count) {
  std::vector<int32_t> ids;
  CCOE_ASSIGN_OR_RETURN(RunOutput out, Feed(prompt));
  ids.push_back(ArgMaxOfLastRow(out.logits, spec_.vocab_size));
  while (static_cast<int>(ids.size()) < count) {
    CCOE_ASSIGN_OR_RETURN(out, Feed(absl::MakeConstSpan(&ids.back(), 1)));
    ids.push_back(ArgMaxOfLastRow(out.logits, spec_.vocab_size));
  }
  return ids;
}

}  // namespace ccoe::testing
