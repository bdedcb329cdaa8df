// SPDX-License-Identifier: Apache-2.0
// One layer expert that a worker holds: its layers, its KV, and a pass over the merged rows of
// several swaps.
#ifndef CCOE_RUNTIME_EXPERTS_LAYER_UNIT_H_
#define CCOE_RUNTIME_EXPERTS_LAYER_UNIT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "runtime/base/ids.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"
#include "runtime/experts/bundle.h"
#include "runtime/experts/pass_memory.h"
#include "runtime/experts/unit_queue.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/model_spec.h"

namespace ccoe::experts {

// Which KV pages of one layer expert hold which sequence of which peer, and how many tokens of it.
// Bookkeeping only.
//
// Pages go to whoever asks first while there are some. Where a peer with less than its fair share
// (pages / peers that hold or want some) is refused, the next free pages are kept for it: peers
// that would be over theirs get none until it was served, left, or has not asked again for kClaim.
// The claim is the peer's and not the sequence's: who is refused gives the sequence up, and comes
// back with another or goes elsewhere. Nothing that is held is ever dropped for another.
//
// Not thread-safe.
class UnitKv {
 public:
  // For how long pages are kept for a peer that was refused and does not ask again: an engine asks
  // every 1.28 s at the latest.
  static constexpr absl::Duration kClaim = absl::Milliseconds(1500);

  // `max_positions`: the model's; a sequence is never longer.
  UnitKv(int64_t pages, int64_t page_tokens, int64_t max_positions)
      : pages_(pages, page_tokens), max_positions_(max_positions) {}

  // Makes room for rows of a sequence, which is then in a pass until Commit or Abandon. Tokens at
  // and after first_position are dropped: they are recomputed. Nothing changes on an error:
  //   kTooLong  longer than all pages together, or than the model's positions
  //   kKvLost   it starts after the tokens that are held
  //   kNoPages  too few free pages, or they are kept for another peer
  absl::Status Admit(uint64_t peer_id, const exchange::SwapSequence& sequence, absl::Time now);

  // The admitted rows were computed: they are held now.
  void Commit(uint64_t peer_id, const exchange::SwapSequence& sequence);
  // They were not: their pages are free again.
  void Abandon(uint64_t peer_id, const exchange::SwapSequence& sequence);

  // Of a sequence in a pass.
  const model::BlockTable& Table(uint64_t peer_id, uint64_t sequence_id) const;

  // Nothing where nothing is held. A sequence in a pass goes when the pass ends.
  void Release(uint64_t peer_id, uint64_t sequence_id);
  // None of its sequences is in a pass.
  void ReleasePeer(uint64_t peer_id);

  int64_t used_tokens() const { return pages_.used_pages() * pages_.page_tokens(); }
  int64_t total_tokens() const { return pages_.pages() * pages_.page_tokens(); }

 private:
  using Key = std::pair<uint64_t, uint64_t>;  // peer, sequence; ordered: a peer's lie together
  struct Held {
    model::BlockTable table;
    int64_t tokens = 0;
    bool in_pass = false;
    bool released = false;  // while it was in a pass
  };
  struct Peer {
    int64_t pages = 0;
    absl::Time claim = absl::InfinitePast();  // until when pages are kept for it
  };

  absl::Status Check(const Held* held, const exchange::SwapSequence& sequence) const;
  absl::Status CheckPages(uint64_t peer_id, uint64_t sequence_id, int64_t more, absl::Time now);
  void Settle(uint64_t peer_id, const exchange::SwapSequence& sequence, int64_t tokens);
  // Sets the tokens a table has room for, and counts its peer's pages.
  void Resize(uint64_t peer_id, int64_t tokens, model::BlockTable& table);
  std::map<Key, Held>::iterator Free(std::map<Key, Held>::iterator held);

  model::KvPages pages_;
  const int64_t max_positions_;
  std::map<Key, Held> held_;
  absl::flat_hash_map<uint64_t, Peer> peers_;  // that hold or ever wanted pages
};

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
