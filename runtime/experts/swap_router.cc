#include "runtime/experts/swap_router.h"

#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ccoe::experts {

absl::StatusOr<std::unique_ptr<SwapRouter>> SwapRouter::Create(exchange::SwapHandler* layer_experts,
                                                               exchange::SwapHandler* ffn_experts) {
  if (layer_experts == nullptr && ffn_experts == nullptr) {
    return absl::InvalidArgumentError("swap router: expected a runner, found none");
  }
  if (layer_experts != nullptr && ffn_experts != nullptr &&
      layer_experts->hidden_size() != ffn_experts->hidden_size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "swap router: the layer experts' rows have width ", layer_experts->hidden_size(),
        ", the FFN experts' ", ffn_experts->hidden_size(), ": expected the same"));
  }
  return absl::WrapUnique(new SwapRouter(layer_experts, ffn_experts));
}

uint64_t SwapRouter::AddPeer() {
  Peer peer;
  if (layer_experts_ != nullptr) peer.layer_experts = layer_experts_->AddPeer();
  if (ffn_experts_ != nullptr) peer.ffn_experts = ffn_experts_->AddPeer();
  absl::MutexLock lock(&mutex_);
  peers_[++last_peer_] = peer;
  return last_peer_;
}

bool SwapRouter::Find(uint64_t peer_id, Peer& peer) const {
  absl::MutexLock lock(&mutex_);
  const auto found = peers_.find(peer_id);
  if (found == peers_.end()) return false;
  peer = found->second;
  return true;
}

void SwapRouter::RemovePeer(uint64_t peer_id) {
  Peer peer;
  if (!Find(peer_id, peer)) return;
  // Runners refuse what comes while they remove a peer, so it may be forgotten last.
  if (layer_experts_ != nullptr) layer_experts_->RemovePeer(peer.layer_experts);
  if (ffn_experts_ != nullptr) ffn_experts_->RemovePeer(peer.ffn_experts);
  absl::MutexLock lock(&mutex_);
  peers_.erase(peer_id);
}

void SwapRouter::HandleSwap(uint64_t peer_id, const exchange::StepHeader& header,
                            exchange::RowBlock rows, exchange::SwapCallback done) {
  const bool ffn = header.ffn.has_value();
  exchange::SwapHandler* const runner = ffn ? ffn_experts_ : layer_experts_;
  if (runner == nullptr) {
    return done(absl::NotFoundError(absl::StrCat("step ", header.step_id, ": this worker holds no ",
                                                 ffn ? "FFN" : "layer", " experts")));
  }
  Peer peer;
  if (!Find(peer_id, peer)) return done(absl::UnavailableError("the peer's link is closed"));
  runner->HandleSwap(ffn ? peer.ffn_experts : peer.layer_experts, header, std::move(rows),
                     std::move(done));
}

void SwapRouter::HandleRelease(uint64_t peer_id, uint64_t sequence_id) {
  Peer peer;
  if (layer_experts_ == nullptr || !Find(peer_id, peer)) return;
  layer_experts_->HandleRelease(peer.layer_experts, sequence_id);
}

kernels::Device* SwapRouter::device() const {
  if (layer_experts_ == nullptr) return ffn_experts_->device();
  if (ffn_experts_ == nullptr) return layer_experts_->device();
  return layer_experts_->device() == ffn_experts_->device() ? layer_experts_->device() : nullptr;
}

int64_t SwapRouter::hidden_size() const {
  return (layer_experts_ != nullptr ? layer_experts_ : ffn_experts_)->hidden_size();
}

}  // namespace ccoe::experts
