// SPDX-License-Identifier: Apache-2.0
// One layer expert that a worker holds: its layers, its KV, and a pass over the merged rows of
// several swaps.
#ifndef CCOE_RUNTIME_EXPERTS_LAYER_UNIT_H_
#define CCOE_RUNTIME_EXPERTS_LAYER_UNIT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "runtime/base/ids.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/experts/bundle.h"
#include "runtime/experts/pass_memory.h"
#include "runtime/experts/unit_kv.h"
#include "runtime/experts/unit_queue.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/model_spec.h"

namespace ccoe::experts {

struct ExpertLoad {
  ExpertRef expert;
  model::LayerRange layers;
  int64_t kv_tokens_used = 0, kv_tokens_total = 0;
  int64_t weight_bytes = 0;
  int64_t waiting_rows = 0;
  int64_t swaps = 0, rows = 0, batches = 0;  // that went through passes, since start
};

// Runs a decoder's layers over `swaps`: results in their order. `batch` holds the sequences that
// the swaps' verdicts leave, one after another, with block tables into `storage`. A swap with
// capture_layers stands alone.
absl::StatusOr<std::vector<exchange::SwapResult>> RunLayerPass(const model::Decoder& decoder,
                                                               const model::KvStorage& storage,
                                                               absl::Span<const WaitingSwap> swaps,
                                                               const model::RowBatch& batch,
                                                               PassMemory& memory);

// Not thread-safe, but for Run, which reads what does not change.
class LayerUnit {
 public:
  // Binds the bundle's tensors and takes the memory of the KV on `device`, which outlives the unit.
  // Errors name expert and tensor.
  static absl::StatusOr<std::unique_ptr<LayerUnit>> Create(const model::ModelSpec& spec,
                                                           const Bundle& bundle,
                                                           const model::KvStorageOptions& kv,
                                                           kernels::Device* device);

  const ExpertRef& expert() const { return load_.expert; }
  model::LayerRange layers() const { return load_.layers; }
  UnitKv& kv() { return kv_; }
  ExpertLoad Load() const;

  // Makes room for the swaps' sequences. One that finds none is left out, with its verdict, and so
  // is a swap of which nothing is left: it goes to `refused`. What is returned views the KV's block
  // tables and is good until Settle.
  model::RowBatch Admit(absl::Time now, std::vector<WaitingSwap>& swaps,
                        std::vector<WaitingSwap>& refused);
  // Of swaps that went through Admit.
  void Settle(absl::Span<const WaitingSwap> swaps, bool computed);

  absl::StatusOr<std::vector<exchange::SwapResult>> Run(absl::Span<const WaitingSwap> swaps,
                                                        const model::RowBatch& batch,
                                                        PassMemory& memory) const {
    return RunLayerPass(*decoder_, *storage_, swaps, batch, memory);
  }

 private:
  LayerUnit(std::unique_ptr<const model::Decoder> decoder,
            std::unique_ptr<const model::KvStorage> storage, UnitKv kv)
      : decoder_(std::move(decoder)), storage_(std::move(storage)), kv_(std::move(kv)) {}

  const std::unique_ptr<const model::Decoder> decoder_;
  const std::unique_ptr<const model::KvStorage> storage_;
  UnitKv kv_;
  ExpertLoad load_;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_LAYER_UNIT_H_
