// Runs a branch's rows on the device: embedding, layers, head. Holds the rows of one branch at a
// time.
#ifndef CCOE_RUNTIME_ENGINE_BRANCH_RUNNER_H_
#define CCOE_RUNTIME_ENGINE_BRANCH_RUNNER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/engine/engine_options.h"
#include "runtime/model/decoder.h"
#include "runtime/model/head.h"
#include "runtime/model/kv_storage.h"

namespace ccoe::engine {

// Device memory for rows of f32, grown by doubling and used again.
class RowBuffer {
 public:
  explicit RowBuffer(kernels::Device* device) : device_(device) {}
  // [rows, cols], content undefined. RESOURCE_EXHAUSTED from the device.
  absl::StatusOr<kernels::Matrix> Take(int64_t rows, int64_t cols);

 private:
  kernels::Device* device_;
  kernels::Buffer buffer_;
};

// The KV of all layers of the model's decoder, and the rows of the branch that runs now. Used by
// one thread. Errors are the device's or the decoder's; after one the rows are undefined until the
// next Embed or Load.
class BranchRunner {
 public:
  // `pages` of `page_tokens` tokens in each layer.
  static absl::StatusOr<std::unique_ptr<BranchRunner>> Create(BackboneModel model,
                                                              std::unique_ptr<kernels::Ops> ops,
                                                              int64_t pages, int64_t page_tokens);

  // The rows become the embeddings of `ids`, or `rows` [n, hidden_size] f32 from host memory.
  absl::Status Embed(absl::Span<const int32_t> ids);
  absl::Status Load(absl::Span<const float> rows);

  // Runs layers `range` over the rows. `after_layer` (may be null) is called after each with its
  // number; it may Read.
  using AfterLayer = absl::FunctionRef<absl::Status(int32_t layer)>;
  absl::Status Run(model::LayerRange range, const model::RowBatch& batch);
  absl::Status Run(model::LayerRange range, const model::RowBatch& batch, AfterLayer after_layer);

  // The given rows, in that order, become all rows.
  absl::Status Keep(absl::Span<const int32_t> rows);

  // Copies rows [begin, begin + count), or the given ones, to host memory [n, hidden_size].
  absl::Status Read(int64_t begin, int64_t count, float* out);
  absl::Status Read(absl::Span<const int32_t> rows, std::vector<float>& out);

  // logits [rows.size(), vocab_size] of the given rows, in host memory.
  absl::Status Logits(const model::LmHead& head, absl::Span<const int32_t> rows,
                      std::vector<float>& logits);

  int64_t hidden_size() const { return model_.spec.hidden_size; }
  int64_t vocab_size() const { return model_.spec.vocab_size; }
  const BackboneModel& model() const { return model_; }

 private:
  BranchRunner(BackboneModel model, std::unique_ptr<kernels::Ops> ops);
  absl::StatusOr<kernels::Matrix> Gather(absl::Span<const int32_t> rows);

  const BackboneModel model_;
  const std::unique_ptr<kernels::Ops> ops_;
  std::unique_ptr<model::KvStorage> kv_;
  model::DecoderScratch scratch_;
  RowBuffer hidden_buffer_, gathered_buffer_, logits_buffer_;
  kernels::Matrix hidden_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_BRANCH_RUNNER_H_
