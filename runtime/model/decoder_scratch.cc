#include <algorithm>
#include <vector>

#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"
#include "runtime/model/rope.h"

namespace ccoe::model {
namespace {

// Room for `floats` f32. What was in the buffer is lost when it grows.
absl::Status Grow(kernels::Device* device, int64_t floats, kernels::Buffer& buffer) {
  const size_t needed = static_cast<size_t>(floats) * sizeof(float);
  if (buffer.size_bytes() >= needed) return absl::OkStatus();
  const size_t size = std::max(needed, 2 * buffer.size_bytes());
  buffer = kernels::Buffer();
  CCOE_ASSIGN_OR_RETURN(buffer, device->Allocate(size));
  return absl::OkStatus();
}

}  // namespace

absl::Status DecoderScratch::Reserve(const ModelSpec& spec, int64_t rows) {
  int64_t q_size = 0, kv_size = 0, intermediate = 0, half_head = 0;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    q_size = std::max(q_size, attention.heads * attention.head_dim);
    kv_size = std::max(kv_size, attention.kv_heads * attention.head_dim);
    intermediate = std::max(intermediate, layer.ffn.intermediate);
    half_head = std::max(half_head, attention.head_dim / 2);
  }
  struct Part {
    kernels::Buffer& buffer;
    int64_t cols;
  };
  const Part parts[] = {{normed_, spec.hidden_size},
                        {q_, q_size},
                        {k_, kv_size},
                        {v_, kv_size},
                        {attention_, q_size},
                        {gate_, intermediate},
                        {up_, intermediate},
                        {cos_, half_head},
                        {sin_, half_head}};
  for (const Part& part : parts) {
    CCOE_RETURN_IF_ERROR(Annotate(Grow(device_, rows * part.cols, part.buffer), "decoder scratch"));
  }
  return absl::OkStatus();
}

absl::Status DecoderScratch::FillRope(absl::Span<const float> frequencies,
                                      absl::Span<const int64_t> positions) {
  std::vector<float> cos(frequencies.size() * positions.size());
  std::vector<float> sin(cos.size());
  RopeRows(frequencies, positions, cos.data(), sin.data());
  const size_t bytes = cos.size() * sizeof(float);
  CCOE_RETURN_IF_ERROR(device_->CopyFromHost(cos.data(), cos_.data(), bytes));
  return device_->CopyFromHost(sin.data(), sin_.data(), bytes);
}

}  // namespace ccoe::model
