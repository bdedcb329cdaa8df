// One worker, both kinds of expert: sends each swap to the runner that computes it.
#ifndef CCOE_RUNTIME_EXPERTS_SWAP_ROUTER_H_
#define CCOE_RUNTIME_EXPERTS_SWAP_ROUTER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "runtime/exchange/activation_link.h"

namespace ccoe::experts {

// A peer of the router is a peer of both runners. Swaps of a peer are computed in order within a
// kind; the kinds are independent of each other. Thread-safe.
class SwapRouter final : public exchange::SwapHandler {
 public:
  // Swaps with header.ffn go to `ffn_experts`, others and releases to `layer_experts`. One of them
  // may be null: its swaps get NOT_FOUND. Both must outlive the router. INVALID_ARGUMENT where both
  // are null or their hidden sizes differ.
  static absl::StatusOr<std::unique_ptr<SwapRouter>> Create(exchange::SwapHandler* layer_experts,
                                                            exchange::SwapHandler* ffn_experts);

  uint64_t AddPeer() override ABSL_LOCKS_EXCLUDED(mutex_);
  void RemovePeer(uint64_t peer_id) override ABSL_LOCKS_EXCLUDED(mutex_);
  void HandleSwap(uint64_t peer_id, const exchange::StepHeader& header, exchange::RowBlock rows,
                  exchange::SwapCallback done) override ABSL_LOCKS_EXCLUDED(mutex_);
  void HandleRelease(uint64_t peer_id, uint64_t sequence_id) override ABSL_LOCKS_EXCLUDED(mutex_);
  // Null where the runners compute on different devices.
  kernels::Device* device() const override;
  int64_t hidden_size() const override;

 private:
  // A peer's ids at the runners; 0 where there is none.
  struct Peer {
    uint64_t layer_experts = 0, ffn_experts = 0;
  };

  SwapRouter(exchange::SwapHandler* layer_experts, exchange::SwapHandler* ffn_experts)
      : layer_experts_(layer_experts), ffn_experts_(ffn_experts) {}
  bool Find(uint64_t peer_id, Peer& peer) const ABSL_LOCKS_EXCLUDED(mutex_);

  exchange::SwapHandler* const layer_experts_;
  exchange::SwapHandler* const ffn_experts_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, Peer> peers_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_peer_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_SWAP_ROUTER_H_
