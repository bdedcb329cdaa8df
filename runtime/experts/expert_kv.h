// Which KV pages of one expert hold which sequence of which peer, and how many tokens of it.
// Bookkeeping only.
#ifndef CCOE_RUNTIME_EXPERTS_EXPERT_KV_H_
#define CCOE_RUNTIME_EXPERTS_EXPERT_KV_H_

#include <cstdint>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "runtime/exchange/step_header.h"
#include "runtime/model/kv_pages.h"

namespace ccoe::experts {

// Not thread-safe.
class ExpertKv {
 public:
  ExpertKv(int64_t pages, int64_t page_tokens) : pages_(pages, page_tokens) {}

  // Makes room for the rows of a swap, all sequences or none. Tokens at and after a sequence's
  // first_position are dropped: they are recomputed. Until Commit the new rows count as not held.
  //   FAILED_PRECONDITION  a sequence starts after the tokens that are held
  //   RESOURCE_EXHAUSTED   too few free pages
  //   INVALID_ARGUMENT     a sequence longer than all pages together
  absl::Status Admit(uint64_t peer_id, const exchange::StepHeader& header);

  // The admitted rows were computed: they are held now.
  void Commit(uint64_t peer_id, const exchange::StepHeader& header);

  // They were not: their pages are free again.
  void Abandon(uint64_t peer_id, const exchange::StepHeader& header);

  // Of an admitted sequence. Valid until the sequence's next Admit, Abandon or Release.
  const model::BlockTable& Table(uint64_t peer_id, uint64_t sequence_id) const;

  // Nothing where nothing is held.
  void Release(uint64_t peer_id, uint64_t sequence_id);
  void ReleasePeer(uint64_t peer_id);

  int64_t used_tokens() const { return pages_.used_pages() * pages_.page_tokens(); }
  int64_t total_tokens() const { return pages_.pages() * pages_.page_tokens(); }

 private:
  struct Held {
    model::BlockTable table;
    int64_t tokens = 0;
  };

  absl::Status Check(uint64_t peer_id, const exchange::StepHeader& header) const;

  model::KvPages pages_;
  std::map<std::pair<uint64_t, uint64_t>, Held>
      held_;  // by peer and sequence; ordered: a peer's lie together
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_EXPERT_KV_H_
