// The peers of a runner, and which of their swaps are not finished.
#ifndef CCOE_RUNTIME_EXPERTS_PEER_TABLE_H_
#define CCOE_RUNTIME_EXPERTS_PEER_TABLE_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

namespace ccoe::experts {

// Not thread-safe: guarded by its runner's lock.
class PeerTable {
 public:
  // A fresh id, from 1, never reused.
  uint64_t Add();

  // UNAVAILABLE for a peer that is gone or going.
  absl::Status Check(uint64_t peer_id) const;

  // A swap was accepted; its callback has returned.
  void Begin(uint64_t peer_id) { ++peers_.at(peer_id).unfinished; }
  void End(uint64_t peer_id) { --peers_.at(peer_id).unfinished; }

  // From now on Check refuses the peer. False: it is gone or going already.
  bool StartLeaving(uint64_t peer_id);
  // No swap of a peer that is leaving is unfinished: Remove may follow.
  bool Idle(uint64_t peer_id) const { return peers_.at(peer_id).unfinished == 0; }
  void Remove(uint64_t peer_id) { peers_.erase(peer_id); }

 private:
  struct Peer {
    int unfinished = 0;
    bool leaving = false;
  };
  absl::flat_hash_map<uint64_t, Peer> peers_;
  uint64_t last_peer_ = 0;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_PEER_TABLE_H_
