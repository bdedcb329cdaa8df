// SPDX-License-Identifier: Apache-2.0
// A paged KV cache: its memory for some layers of one model (KvStorage), and which page belongs to
// whom (KvPages), kept by the engine on the backbone worker and by each layer expert on an expert
// worker.
#ifndef CCOE_RUNTIME_MODEL_KV_CACHE_H_
#define CCOE_RUNTIME_MODEL_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/attention.h"
#include "kernels/device.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// The pages of one sequence in order: entry i holds tokens [i * page_tokens, (i + 1) *
// page_tokens). What kernels::SequenceRows::block_table views.
using BlockTable = std::vector<int32_t>;

// A fixed number of pages, handed out to block tables. Pure bookkeeping. Not thread-safe.
class KvPages {
 public:
  // `pages` >= 0 of `page_tokens` >= 1 tokens each, numbered from 0, all free.
  KvPages(int64_t pages, int64_t page_tokens);

  // Grows `table` until it holds `tokens` tokens (a table that is large enough stays as it is).
  // RESOURCE_EXHAUSTED with nothing changed where too few pages are free. Pages freed last are
  // taken first, fresh ones from 0 up, so that memory that was never needed is never touched.
  absl::Status Grow(int64_t tokens, BlockTable& table);

  // Frees the pages of `table` that hold no token below `tokens`; 0 frees all.
  void Shrink(int64_t tokens, BlockTable& table);
  void Free(BlockTable& table) { Shrink(0, table); }

  // Pages that `tokens` tokens take.
  int64_t PagesFor(int64_t tokens) const { return (tokens + page_tokens_ - 1) / page_tokens_; }

  // Whether Grow(tokens, table) would succeed.
  bool CanGrow(int64_t tokens, const BlockTable& table) const {
    return PagesFor(tokens) - static_cast<int64_t>(table.size()) <= free_pages();
  }

  int64_t pages() const { return static_cast<int64_t>(in_use_.size()); }
  int64_t page_tokens() const { return page_tokens_; }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  int64_t used_pages() const { return pages() - free_pages(); }

 private:
  const int64_t page_tokens_;
  std::vector<int32_t> free_;  // taken from the back
  std::vector<bool>
      in_use_;  // by page: a page freed twice is a bug that would mix up two sequences
};

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

#endif  // CCOE_RUNTIME_MODEL_KV_CACHE_H_
