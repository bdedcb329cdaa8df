// SPDX-License-Identifier: Apache-2.0
// A decoder whose weights are made on the device, run by hand.
#ifndef CCOE_TOOLS_GPU_PROBE_PROBE_MODEL_H_
#define CCOE_TOOLS_GPU_PROBE_PROBE_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/random_model.h"
#include "runtime/model/head.h"
#include "runtime/model/kv_cache.h"
#include "tools/gpu_probe/probe.h"

namespace ccoe::probe {

struct ProbeModelOptions {
  model::RandomModelOptions shape;
  int64_t sequences = 1;  // at most
  int64_t tokens = 0;     // that a sequence may have
  // The first may have so many, on pages that are others' as well: for steps of it alone.
  int64_t first_tokens = 0;
  int64_t rows = 1;      // of a step at most
  bool captured = true;  // decode steps may be launched as graphs
};

// bf16 weights, products and cache. Not thread-safe.
class ProbeModel {
 public:
  static absl::StatusOr<std::unique_ptr<ProbeModel>> Create(Probe* probe,
                                                            const ProbeModelOptions& options);

  // The next `tokens` tokens of each of the first `sequences` sequences: layers, head of the last
  // row of each, the most likely token. Waits.
  absl::Status Step(int64_t sequences, int64_t tokens);
  // Sequences begin anew, at position `position` (of whatever the cache holds there).
  void Rewind(int64_t position) { position_ = position; }

  // Of the last step: logits of the sequences' last rows.
  absl::StatusOr<std::vector<float>> Logits(int64_t sequences);

  const model::ModelSpec& spec() const { return spec_; }
  int64_t weight_bytes() const { return weights_->device_bytes(); }
  int64_t graphs_launched() const { return kernels::CudaGraphsLaunched(*ops_); }

 private:
  explicit ProbeModel(const ProbeModelOptions& options) : options_(options) {}
  absl::Status Init(Probe* probe);
  absl::Status MakeOps(Probe* probe);
  absl::Status MakeWeights(kernels::Device* device);
  absl::Status MakeBuffers(kernels::Device* device);
  absl::Status Embed(int64_t rows);
  absl::Status Head(const model::RowBatch& batch);

  static constexpr int64_t kPage = 32;  // tokens

  const ProbeModelOptions options_;
  model::ModelSpec spec_;
  int64_t position_ = 0;
  std::unique_ptr<kernels::Ops> ops_;
  std::shared_ptr<const model::Weights> weights_;
  std::unique_ptr<model::Decoder> decoder_;
  std::unique_ptr<model::TokenEmbedding> embedding_;
  std::unique_ptr<model::LmHead> head_;
  std::unique_ptr<model::KvStorage> kv_;
  std::unique_ptr<model::DecoderScratch> scratch_;
  kernels::Buffer hidden_, last_, normed_, logits_;
  std::vector<std::vector<int32_t>> tables_;  // pages of each sequence
};

}  // namespace ccoe::probe

#endif  // CCOE_TOOLS_GPU_PROBE_PROBE_MODEL_H_
