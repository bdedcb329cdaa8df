#include <algorithm>

#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"
#include "runtime/model/rope.h"
#include "runtime/model/scratch.h"

namespace ccoe::model {

ScratchWidths::ScratchWidths(const ModelSpec& spec) : hidden(spec.hidden_size) {
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    const LatentSpec& latent = attention.latent;
    const int64_t kv = attention.kv_heads * attention.head_dim;
    q = std::max(q, attention.heads * attention.head_dim);
    k = std::max(k, kv);
    v = std::max(v, attention.is_latent() ? attention.heads * latent.value_dim : kv);
    q_rank = std::max(q_rank, latent.q_rank);
    nope = std::max(nope, attention.heads * latent.nope_dim);
    intermediate = std::max(intermediate, layer.ffn.intermediate);
  }
}

absl::Status DecoderScratch::Reserve(const ScratchWidths& widths, int64_t rows) {
  struct Part {
    kernels::Buffer& buffer;
    int64_t cols;
  };
  const Part parts[] = {{normed_, widths.hidden},
                        {q_, widths.q},
                        {k_, widths.k},
                        {v_, widths.v},
                        {attention_, widths.q},
                        {q_down_, widths.q_rank},
                        {nope_, widths.nope},
                        {gate_, widths.intermediate},
                        {up_, widths.intermediate}};
  for (const Part& part : parts) {
    CCOE_RETURN_IF_ERROR(GrowScratch(device_, rows * part.cols, part.buffer));
  }
  return absl::OkStatus();
}

absl::Status DecoderScratch::ReservePasses(const ModelSpec& spec, int64_t rows) {
  CCOE_RETURN_IF_ERROR(Reserve(ScratchWidths(spec), rows));
  CCOE_RETURN_IF_ERROR(ended_.Reserve(device_, spec, rows));
  CCOE_RETURN_IF_ERROR(choices_.Begin(spec, {0, spec.layer_count()}, rows));
  return moe_.Reserve(spec, rows);
}

absl::Status DecoderPass::Reserve(kernels::Device* device, const ModelSpec& spec, int64_t rows) {
  const int64_t values = rows * ((RotaryDim(spec) + 1) / 2);
  CCOE_RETURN_IF_ERROR(GrowScratch(device, values, cos));
  return GrowScratch(device, values, sin);
}

}  // namespace ccoe::model
