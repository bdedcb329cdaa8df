#include <algorithm>

#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"
#include "runtime/model/rope.h"
#include "runtime/model/scratch.h"

namespace ccoe::model {

absl::Status DecoderScratch::Reserve(const ModelSpec& spec, int64_t rows) {
  int64_t q_size = 0, k_size = 0, v_size = 0, intermediate = 0, q_rank = 0, nope_size = 0;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    const LatentSpec& latent = attention.latent;
    const int64_t kv_size = attention.kv_heads * attention.head_dim;
    q_size = std::max(q_size, attention.heads * attention.head_dim);
    k_size = std::max(k_size, kv_size);
    v_size = std::max(v_size, attention.is_latent() ? attention.heads * latent.value_dim : kv_size);
    q_rank = std::max(q_rank, latent.q_rank);
    nope_size = std::max(nope_size, attention.heads * latent.nope_dim);
    intermediate = std::max(intermediate, layer.ffn.intermediate);
  }
  struct Part {
    kernels::Buffer& buffer;
    int64_t cols;
  };
  const Part parts[] = {
      {normed_, spec.hidden_size}, {q_, q_size},      {k_, k_size},       {v_, v_size},
      {attention_, q_size},        {q_down_, q_rank}, {nope_, nope_size}, {gate_, intermediate},
      {up_, intermediate}};
  for (const Part& part : parts) {
    CCOE_RETURN_IF_ERROR(GrowScratch(device_, rows * part.cols, part.buffer));
  }
  return absl::OkStatus();
}

absl::Status DecoderScratch::ReservePasses(const ModelSpec& spec, int64_t rows) {
  CCOE_RETURN_IF_ERROR(Reserve(spec, rows));
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
