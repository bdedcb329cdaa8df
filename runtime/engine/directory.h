// SPDX-License-Identifier: Apache-2.0
// Where experts are: what the engine asks at admission, when a worker is lost, and at MoE layers.
#ifndef CCOE_RUNTIME_ENGINE_DIRECTORY_H_
#define CCOE_RUNTIME_ENGINE_DIRECTORY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/base/ids.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/model/head.h"
#include "runtime/model/model_spec.h"

namespace ccoe::engine {

// A layer expert on one worker, as the engine needs it. shared_ptr: a query pins it, whatever the
// directory says meanwhile, until it ends or moves to another worker.
struct ExpertBinding {
  ExpertRef expert;  // real version
  model::LayerRange layers;
  std::shared_ptr<exchange::ActivationLink> link;  // null: no worker has it now, one may come
  std::shared_ptr<const model::LmHead> own_head;   // null: the backbone's
  std::string worker_id;                           // for messages
  std::string numerics;        // of the worker, see exchange::LinkPeer; empty: not known
  std::string weights_digest;  // of the expert; empty: not known
  // What the expert's whole KV cache holds at least, on each worker that a query bound like this
  // may go to; 0: not known.
  int64_t kv_tokens = 0;
};

// Links to keep away from. Weak: a link that is gone cannot be chosen.
using LinkList = std::vector<std::weak_ptr<exchange::ActivationLink>>;

// Finds layer experts. Thread-safe.
class ExpertDirectory {
 public:
  virtual ~ExpertDirectory() = default;
  // NOT_FOUND says which experts there are. A binding without link: the expert is known, and no
  // worker serves it now.
  virtual absl::StatusOr<std::shared_ptr<const ExpertBinding>> Find(const ExpertRef& expert) = 0;

  // Where the expert of `bound` (name, version, weights, at least its KV tokens) is served best
  // now, over no link of `avoid`: on a worker of the same numerics where there is one; over the
  // link of `bound` unless another one carries less. UNAVAILABLE: no such worker has it now.
  virtual absl::StatusOr<std::shared_ptr<const ExpertBinding>> FindReplica(
      const ExpertBinding& bound, const LinkList& avoid) = 0;
};

// A worker that holds FFN experts, and the link to it.
struct FfnPeer {
  std::string worker_id;
  std::shared_ptr<exchange::ActivationLink> link;
};

// Who holds which FFN experts at one time. Immutable once published.
class FfnTable {
 public:
  static constexpr int32_t kHere = -1;  // with the backbone

  // holders[layer][expert]: kHere or indices into peers, each once, replicas side by side. Empty
  // for layers without FFN experts; an expert without holders is nowhere now.
  using Holders = std::vector<std::vector<std::vector<int32_t>>>;

  FfnTable() = default;
  FfnTable(std::vector<FfnPeer> peers, const Holders& holders);

  std::vector<FfnPeer> peers;
  // Of experts, by (layer, expert), that are nowhere now: who held it and what became of them, for
  // messages ("expert worker expert-2 (the link is closed)").
  std::map<std::pair<int32_t, int32_t>, std::string> gone;

  int32_t layers() const { return static_cast<int32_t>(first_expert_.size()) - 1; }
  // Of a layer; 0 where it is unknown or has none.
  int32_t experts(int32_t layer) const {
    return layer < 0 || layer >= layers() ? 0 : first_expert_[layer + 1] - first_expert_[layer];
  }
  absl::Span<const int32_t> HoldersOf(int32_t layer, int32_t expert) const {
    if (expert < 0 || expert >= experts(layer)) return {};
    const int32_t at = first_expert_[layer] + expert;
    return absl::MakeConstSpan(holders_).subspan(first_holder_[at],
                                                 first_holder_[at + 1] - first_holder_[at]);
  }

 private:
  // Flat, since every MoE layer of every step reads it: layer l's experts are numbered from
  // first_expert_[l], expert e's holders lie at [first_holder_[e], first_holder_[e + 1]).
  std::vector<int32_t> first_expert_ = {0};
  std::vector<int32_t> first_holder_ = {0};
  std::vector<int32_t> holders_;
};

// Thread-safe.
class FfnDirectory {
 public:
  virtual ~FfnDirectory() = default;
  // Rises whenever Table would give another one. Cheap: no lock, asked at every MoE layer of a
  // step.
  virtual uint64_t epoch() const = 0;
  // The newest table, never null; without workers whose links do not work.
  virtual std::shared_ptr<const FfnTable> Table() = 0;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_DIRECTORY_H_
