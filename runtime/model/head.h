// SPDX-License-Identifier: Apache-2.0
// The two ends of a model: token embedding, and final norm with LM head.
#ifndef CCOE_RUNTIME_MODEL_HEAD_H_
#define CCOE_RUNTIME_MODEL_HEAD_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// Thread-safe (const).
class TokenEmbedding {
 public:
  static absl::StatusOr<std::unique_ptr<TokenEmbedding>> Create(
      const ModelSpec& spec, std::shared_ptr<const Weights> weights);
  // hidden [ids.size(), hidden_size] f32. INVALID_ARGUMENT for an id outside the vocabulary.
  absl::Status Embed(absl::Span<const int32_t> ids, kernels::Ops& ops,
                     kernels::Matrix hidden) const;

 private:
  TokenEmbedding() = default;
  ModelSpec spec_;
  std::shared_ptr<const Weights> weights_;
  kernels::ConstMatrix table_;
};

// Thread-safe (const).
class LmHead {
 public:
  // `weights` holds the final norm and (unless tied) the LM head. An expert that owns its
  // norm or head has them in its bundle: `own` (may be null) is looked into first, `weights` for
  // what it lacks.
  static absl::StatusOr<std::unique_ptr<LmHead>> Create(
      const ModelSpec& spec, std::shared_ptr<const Weights> weights,
      std::shared_ptr<const Weights> own = nullptr);
  // logits [rows, vocab_size] f32 from hidden [rows, hidden_size] f32; `normed` is scratch of
  // hidden's shape (may be hidden).
  absl::Status Logits(kernels::ConstMatrix hidden, kernels::Ops& ops, kernels::Matrix normed,
                      kernels::Matrix logits) const;

 private:
  LmHead() = default;
  ModelSpec spec_;
  std::shared_ptr<const Weights> weights_, own_;
  kernels::ConstMatrix norm_, head_;
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_HEAD_H_
