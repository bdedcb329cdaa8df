// Where the FFN experts of MoE layers are.
#ifndef CCOE_RUNTIME_ENGINE_FFN_DIRECTORY_H_
#define CCOE_RUNTIME_ENGINE_FFN_DIRECTORY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/exchange/activation_link.h"

namespace ccoe::engine {

// A worker that holds FFN experts, and the link to it.
struct FfnPeer {
  std::string worker_id;
  std::shared_ptr<exchange::ActivationLink> link;
};

// One epoch of the placement. Immutable once published.
struct FfnTable {
  static constexpr int32_t kHere = -1;  // with the backbone

  int64_t epoch = 0;
  std::vector<FfnPeer> peers;
  // holders[layer][expert]: kHere or indices into peers, each once, replicas side by side. Empty
  // for layers without FFN experts; an expert without holders is nowhere now.
  std::vector<std::vector<std::vector<int32_t>>> holders;
  // Of experts, by (layer, expert), that are nowhere now: who held it last and what became of it,
  // for messages ("expert worker expert-2: the link is closed").
  std::map<std::pair<int32_t, int32_t>, std::string> gone;
};

// Thread-safe.
class FfnDirectory {
 public:
  virtual ~FfnDirectory() = default;
  // The newest table, never null. Cheap: called for every MoE layer of a step.
  virtual std::shared_ptr<const FfnTable> Table() = 0;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_FFN_DIRECTORY_H_
