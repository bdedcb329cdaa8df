// Runs layer experts: merges the rows that wait for one expert, from all backbone workers, into one
// batch, keeps their KV.
#ifndef CCOE_RUNTIME_EXPERTS_EXPERT_RUNNER_H_
#define CCOE_RUNTIME_EXPERTS_EXPERT_RUNNER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/op_shapes.h"
#include "kernels/ops.h"
#include "runtime/base/ids.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/experts/bundle.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/model_spec.h"

namespace ccoe::experts {

struct ExpertRunnerOptions {
  int64_t kv_tokens = 65536;  // KV capacity of each expert, in tokens
  int64_t page_tokens = 32;
  kernels::DType kv_dtype = kernels::DType::kF32;  // of the KV cache; what the ops' device takes
  int64_t max_batch_rows = 2048;     // rows of one pass; a larger swap runs alone, piece by piece
  int max_waiting_swaps = 1024;      // over all peers; one more gets RESOURCE_EXHAUSTED
  int64_t max_waiting_rows = 65536;  // likewise, unless nothing else waits
};

// The ops' calls of a runner with these options.
kernels::OpShapes ShapesOf(const model::ModelSpec& spec, const ExpertRunnerOptions& options);
// Of the cache of an expert with these layers.
model::KvStorageOptions KvOptionsOf(const ExpertRunnerOptions& options, model::LayerRange layers);

struct ExpertLoad {
  ExpertRef expert;
  model::LayerRange layers;
  int64_t kv_tokens_used = 0, kv_tokens_total = 0;
  int64_t weight_bytes = 0;
  int64_t waiting_rows = 0;
  int64_t swaps = 0, rows = 0, batches = 0;  // since start
};

// One compute thread: it takes the expert whose oldest swap waits longest and merges what waits for
// it. Swaps of one peer for one expert are computed in order, and so are those that share a
// sequence, with its releases; others of the peer may overtake them. Thread-safe.
class ExpertRunner final : public exchange::SwapHandler {
 public:
  // Takes the device memory of passes; an expert added takes that of its KV. `ops` runs on the
  // runner's thread only.
  static absl::StatusOr<std::unique_ptr<ExpertRunner>> Create(const model::ModelSpec& spec,
                                                              std::unique_ptr<kernels::Ops> ops,
                                                              const ExpertRunnerOptions& options);
  ~ExpertRunner() override;

  // Makes an expert available; queries may use it from the next swap on. ALREADY_EXISTS for a
  // version that is there.
  absl::Status AddExpert(const Bundle& bundle);
  std::vector<ExpertLoad> Load() const;

  uint64_t AddPeer() override;
  void RemovePeer(uint64_t peer_id) override;
  void HandleSwap(uint64_t peer_id, const exchange::StepHeader& header, exchange::RowBlock rows,
                  exchange::SwapCallback done) override;
  void HandleRelease(uint64_t peer_id, uint64_t sequence_id) override;
  kernels::Device* device() const override;
  int64_t hidden_size() const override;

 private:
  class Impl;
  explicit ExpertRunner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_EXPERT_RUNNER_H_
