// SPDX-License-Identifier: Apache-2.0
// What a decoder keeps of a pass over a batch of rows, from layer to layer and from pass to pass.
#ifndef CCOE_RUNTIME_MODEL_DECODER_PASS_H_
#define CCOE_RUNTIME_MODEL_DECODER_PASS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/model/block.h"
#include "runtime/model/ffn.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// The rows of one pass: consecutive tokens of some sequences, sequence after sequence.
// sequences[i].row_begin counts up from 0 without gaps.
struct RowBatch {
  std::vector<kernels::SequenceRows> sequences;

  int64_t rows() const {
    return sequences.empty() ? 0 : sequences.back().row_begin + sequences.back().row_count;
  }
};

// What a pass over one batch needs at every layer. Movable; owns device memory and views the
// batch's block tables. Made by Decoder::BeginPass, used for one layer after another.
struct DecoderPass {
  RowBatch batch;
  std::vector<int64_t> slots;  // of each row in the cache
  kernels::Buffer cos, sin;    // [rows, rotary_dim / 2] f32 and more
  int64_t half_rotary = 0;
  const KvStorage* kv = nullptr;           // outlives the pass
  const GateSteering* steering = nullptr;  // may be null; outlives the pass

  int64_t rows() const { return batch.rows(); }

  // See Decoder::BeginPass. `rope_frequencies` are the model's (attention.h).
  static absl::StatusOr<DecoderPass> Begin(const ModelSpec& spec,
                                           absl::Span<const float> rope_frequencies,
                                           const RowBatch& batch, const KvStorage& kv,
                                           kernels::Ops& ops, DecoderPass ended);
  // Room for `rows` rows, for a pass that is given to Begin as the one that ended.
  absl::Status Reserve(kernels::Device* device, const ModelSpec& spec, int64_t rows);
};

// Columns of the buffers of a DecoderScratch: the most that any layer of a model wants.
struct ScratchWidths {
  explicit ScratchWidths(const ModelSpec& spec);

  int64_t hidden = 0, q = 0, k = 0, v = 0, intermediate = 0;
  int64_t q_rank = 0, nope = 0;  // of latent attention
};

// Intermediate activations of one pass at a time, kept between passes. Not thread-safe.
class DecoderScratch {
 public:
  explicit DecoderScratch(kernels::Device* device)
      : device_(device), moe_(device), choices_(device) {}

  // Room for the attention and dense feed-forward of `rows` rows; grows by doubling, never shrinks.
  // RESOURCE_EXHAUSTED from the device.
  absl::Status Reserve(const ScratchWidths& widths, int64_t rows);
  // For all of a pass of up to `rows` rows, over any layers: it allocates nothing.
  absl::Status ReservePasses(const ModelSpec& spec, int64_t rows);

  // Of the layers that ran last: see Decoder::Run.
  MoeChoices& choices() { return choices_; }
  // The pass that Run ran last, for whoever begins passes by himself: BeginPass takes it as
  // `ended`, and with it the memory that ReservePasses took for it.
  DecoderPass& pass() { return ended_; }
  // For whoever runs FFN experts alone, between passes.
  MoeScratch& moe() { return moe_; }

 private:
  friend class Decoder;

  kernels::Device* device_;
  kernels::Buffer normed_, q_, k_, v_, attention_, gate_, up_;
  kernels::Buffer q_down_, nope_;  // of latent attention
  DecoderPass ended_;              // Run's last one
  MoeScratch moe_;
  MoeChoices choices_;
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_DECODER_PASS_H_
