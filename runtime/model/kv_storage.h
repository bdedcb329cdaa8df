// The memory of a paged KV cache, for some layers of one model. Which page belongs to whom is the
// owner's business: kv_pages, kept by the engine and by each layer expert.
#ifndef CCOE_RUNTIME_MODEL_KV_STORAGE_H_
#define CCOE_RUNTIME_MODEL_KV_STORAGE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/attention.h"
#include "kernels/device.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

struct KvStorageOptions {
  LayerRange layers;                            // the layers that get pages
  int64_t pages = 0;                            // pages a layer, > 0
  int64_t page_tokens = 32;                     // tokens a page, > 0
  kernels::DType dtype = kernels::DType::kF32;  // f32, f16 or bf16, as far as the device's ops go
};

// Immutable layout; the pages' content belongs to whoever runs the decoder over it.
class KvStorage {
 public:
  // RESOURCE_EXHAUSTED with the sum spelled out where the device cannot hold it.
  static absl::StatusOr<std::unique_ptr<KvStorage>> Create(kernels::Device* device,
                                                           const ModelSpec& spec,
                                                           const KvStorageOptions& options);

  // The pages of layer `layer` (numbered as in the model); options.layers must contain it.
  kernels::KvLayer Layer(int32_t layer) const;

  LayerRange layers() const { return options_.layers; }
  int64_t page_tokens() const { return options_.page_tokens; }
  int64_t pages() const { return options_.pages; }

  // Bytes one token takes over the given layers (K and V; one row for both with latent
  // attention).
  static int64_t BytesPerToken(const ModelSpec& spec, LayerRange layers,
                               kernels::DType dtype = kernels::DType::kF32);

 private:
  KvStorage(KvStorageOptions options, std::vector<kernels::KvLayer> layers, kernels::Buffer buffer);

  KvStorageOptions options_;
  std::vector<kernels::KvLayer> layers_;  // [0] is options_.layers.first
  kernels::Buffer buffer_;
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_KV_STORAGE_H_
