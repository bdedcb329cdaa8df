// Runs FFN experts of MoE layers: merges the rows that wait for one layer, from all backbone
// workers, into one grouped pass. Stateless between swaps.
#ifndef CCOE_RUNTIME_EXPERTS_FFN_RUNNER_H_
#define CCOE_RUNTIME_EXPERTS_FFN_RUNNER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/op_shapes.h"
#include "kernels/ops.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::experts {

struct FfnRunnerOptions {
  // (row, expert) pairs of one pass; a larger swap runs alone, piece by piece. The device memory of
  // this many, (4 * hidden + 2 * intermediate) floats each, is taken at creation.
  int64_t max_batch_rows = 2048;
  int max_waiting_swaps = 1024;      // over all peers; one more gets RESOURCE_EXHAUSTED
  int64_t max_waiting_rows = 65536;  // likewise, unless nothing else waits
};

// The ops' calls of a runner with these options.
kernels::OpShapes ShapesOf(const model::ModelSpec& spec, const FfnRunnerOptions& options);

struct FfnLoad {
  model::FfnShard shard;
  int64_t weight_bytes = 0;
  int64_t waiting_rows = 0;
  int64_t swaps = 0, rows = 0, pairs = 0, batches = 0;  // since start
};

// One compute thread; swaps of one peer are computed in order. Thread-safe.
class FfnRunner final : public exchange::SwapHandler {
 public:
  // `ops` runs on the runner's thread only.
  static absl::StatusOr<std::unique_ptr<FfnRunner>> Create(const model::ModelSpec& spec,
                                                           std::unique_ptr<kernels::Ops> ops,
                                                           const FfnRunnerOptions& options);
  ~FfnRunner() override;

  // Holds `shard` too, with its tensors from `weights` (kept alive). Binds and checks all before
  // it adds any; errors name the tensor. What is held already is passed over.
  absl::Status AddShard(const model::FfnShard& shard,
                        std::shared_ptr<const model::Weights> weights);
  FfnLoad Load() const;

  // Swaps with header.ffn set. NOT_FOUND names layer and expert this worker does not hold;
  // INVALID_ARGUMENT for a layer without FFN experts. A row's bits depend on nothing but the row,
  // its experts and their weights.
  uint64_t AddPeer() override;
  void RemovePeer(uint64_t peer_id) override;
  void HandleSwap(uint64_t peer_id, const exchange::StepHeader& header, exchange::RowBlock rows,
                  exchange::SwapCallback done) override;
  void HandleRelease(uint64_t peer_id, uint64_t sequence_id) override;
  kernels::Device* device() const override;
  int64_t hidden_size() const override;

 private:
  class Impl;
  explicit FfnRunner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_FFN_RUNNER_H_
