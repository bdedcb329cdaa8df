// Which tokens a query has seen, for the sampling penalties.
#ifndef CCOE_RUNTIME_ENGINE_TOKEN_COUNTS_H_
#define CCOE_RUNTIME_ENGINE_TOKEN_COUNTS_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace ccoe::engine {

// Not thread-safe.
class TokenCounts {
 public:
  void AddPrompt(absl::Span<const int32_t> ids) {
    for (int32_t id : ids) answer_counts_.try_emplace(id, 0);
  }
  void AddAnswer(int32_t id) { ++answer_counts_[id]; }

  // Every id of prompt and answer, with how often it stands in the answer (0: in the prompt only).
  const absl::flat_hash_map<int32_t, int32_t>& answer_counts() const { return answer_counts_; }

 private:
  absl::flat_hash_map<int32_t, int32_t> answer_counts_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_TOKEN_COUNTS_H_
