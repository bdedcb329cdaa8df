#include "runtime/experts/peer_table.h"

namespace ccoe::experts {

uint64_t PeerTable::Add() {
  peers_.try_emplace(++last_peer_);
  return last_peer_;
}

absl::Status PeerTable::Check(uint64_t peer_id) const {
  const auto peer = peers_.find(peer_id);
  if (peer != peers_.end() && !peer->second.leaving) return absl::OkStatus();
  return absl::UnavailableError("the peer's link is closed");
}

bool PeerTable::StartLeaving(uint64_t peer_id) {
  const auto peer = peers_.find(peer_id);
  if (peer == peers_.end() || peer->second.leaving) return false;
  peer->second.leaving = true;
  return true;
}

}  // namespace ccoe::experts
