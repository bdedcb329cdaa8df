// SPDX-License-Identifier: Apache-2.0
// A model run by hand, without an engine: one sequence, any chunk and page size, the layers from
// one or several Weights.
#ifndef CCOE_TESTS_TESTING_MODEL_RUN_H_
#define CCOE_TESTS_TESTING_MODEL_RUN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/base/parallel.h"
#include "runtime/model/decoder.h"
#include "runtime/model/head.h"
#include "runtime/model/kv_cache.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::testing {

// What came out for some tokens, host memory, f32.
struct RunOutput {
  std::vector<float> logits;  // [tokens, vocab]
  std::vector<std::vector<float>>
      hidden;  // [layers + 1] of [tokens, hidden]: the embedding, then each layer's output
  std::vector<float> normed;  // [tokens, hidden], after the final norm
};

struct ModelRunOptions {
  int64_t page_tokens = 16;
  int64_t max_tokens = 256;  // of the sequence
  int threads = 2;
  // The CPU's ops over this device, weights uploaded; null: over the host's memory.
  TaggedDevice* device = nullptr;
};

// One sequence over one model. Not thread-safe.
class ModelRun {
 public:
  // The layers [expert_first, expert_last) from `expert` (null: all from `base`; -1: to the end),
  // the others from `base`.
  // Each part has its own KV storage, as on separate workers. The block table names the pages in a
  // scrambled order.
  static absl::StatusOr<std::unique_ptr<ModelRun>> Create(
      const model::ModelSpec& spec, std::shared_ptr<const model::Weights> base,
      const ModelRunOptions& options, std::shared_ptr<const model::Weights> expert = nullptr,
      int32_t expert_first = 0, int32_t expert_last = -1);
  // Spec and weights of a checkpoint folder.
  static absl::StatusOr<std::unique_ptr<ModelRun>> Open(const std::string& folder,
                                                        const ModelRunOptions& options);

  // Feeds the next tokens of the sequence in one pass.
  absl::StatusOr<RunOutput> Feed(absl::Span<const int32_t> ids);
  // Feeds them in passes of `chunk` and joins what comes out.
  absl::StatusOr<RunOutput> FeedInChunks(absl::Span<const int32_t> ids, size_t chunk);
  // Feeds a prompt, then `count` tokens by arg-max, one at a time.
  absl::StatusOr<std::vector<int32_t>> Greedy(absl::Span<const int32_t> prompt, int count);

  const model::ModelSpec& spec() const { return spec_; }

 private:
  struct Stage {
    std::unique_ptr<model::Decoder> decoder;
    std::unique_ptr<model::KvStorage> kv;
  };

  ModelRun(const model::ModelSpec& spec, const ModelRunOptions& options);
  std::shared_ptr<const model::Weights> Placed(std::shared_ptr<const model::Weights> weights);
  absl::Status AddStage(model::LayerRange layers, std::shared_ptr<const model::Weights> weights);

  const model::ModelSpec spec_;
  TaggedDevice* const device_;
  ThreadTeam team_;
  std::unique_ptr<kernels::Ops> ops_;
  std::unique_ptr<model::TokenEmbedding> embedding_;
  std::unique_ptr<model::LmHead> head_;
  std::vector<Stage> stages_;
  model::KvStorageOptions kv_options_;
  std::vector<int32_t> block_table_;
  int64_t position_ = 0;
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_MODEL_RUN_H_
