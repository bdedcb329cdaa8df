// Which tokens a query has seen, for the sampling penalties.
#ifndef CCOE_RUNTIME_ENGINE_TOKEN_COUNTS_H_
#define CCOE_RUNTIME_ENGINE_TOKEN_COUNTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "kernels/sample.h"

namespace ccoe::engine {

// Not thread-safe.
class TokenCounts {
 public:
  void AddPrompt(absl::Span<const int32_t> ids) {
    for (int32_t id : ids) Entry(id);
  }
  void AddAnswer(int32_t id) { ++Entry(id).answer_count; }

  // Every id of prompt and answer, with how often it stands in the answer (0: in the prompt only);
  // in order of first appearance. Valid until the next Add.
  absl::Span<const kernels::TokenCount> entries() const { return entries_; }

 private:
  kernels::TokenCount& Entry(int32_t id) {
    const auto [found, fresh] = places_.try_emplace(id, entries_.size());
    if (fresh) entries_.push_back({id, 0});
    return entries_[found->second];
  }

  absl::flat_hash_map<int32_t, size_t> places_;
  std::vector<kernels::TokenCount> entries_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_TOKEN_COUNTS_H_
