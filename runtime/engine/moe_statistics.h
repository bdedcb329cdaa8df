// SPDX-License-Identifier: Apache-2.0
// Which experts the rows of a model's MoE layers choose: counted by the engine, read by metrics,
// `ccoe moe stats` and the placement planner.
#ifndef CCOE_RUNTIME_ENGINE_MOE_STATISTICS_H_
#define CCOE_RUNTIME_ENGINE_MOE_STATISTICS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "runtime/model/model_spec.h"

namespace ccoe::engine {

// Counts of one MoE layer.
struct LayerMoeCounts {
  int32_t layer = 0;
  uint64_t rows = 0;             // that went through the layer's gate
  std::vector<uint64_t> tokens;  // [experts]: rows that chose the expert
  // Rows that chose both experts of a pair a < b: (0, 1), (0, 2), .. (1, 2), .., one for each of
  // the experts * (experts - 1) / 2. Empty: not known.
  std::vector<uint64_t> pairs;

  int64_t experts() const { return static_cast<int64_t>(tokens.size()); }
};

// By layer, rising; layers that no row went through are there with zeros.
struct MoeSnapshot {
  std::vector<LayerMoeCounts> layers;
};

// Where pair (a, b), 0 <= a < b < experts, stands in LayerMoeCounts::pairs.
inline int64_t PairIndex(int64_t a, int64_t b, int64_t experts) {
  return a * (2 * experts - a - 1) / 2 + (b - a - 1);
}
inline int64_t PairCount(int64_t experts) { return experts * (experts - 1) / 2; }

// Mean over greatest number of tokens of an expert: 1 is even, 1 / experts all on one. 1 where
// nothing was counted.
double Balancedness(absl::Span<const uint64_t> tokens);

struct HotExpert {
  int32_t layer = 0;
  int32_t expert = 0;
  uint64_t tokens = 0;
  double share = 0.0;  // tokens / rows of the layer
};

// The `count` experts with the greatest share of their layer's rows, greatest first (then by layer,
// expert); none without tokens.
std::vector<HotExpert> HotExperts(const MoeSnapshot& snapshot, int count);

struct ExpertPair {
  int32_t first = 0;
  int32_t second = 0;
  uint64_t rows = 0;
};

// The pair that most rows chose together, the lowest such; rows = 0 where none did.
ExpertPair MostCoActivated(const LayerMoeCounts& layer);

// Adds the counts of `other`, of another worker with the same model, to `total`; layers that only
// one has are taken over, and pairs are dropped where only one knows them. INVALID_ARGUMENT, with
// `total` unchanged, where the numbers of experts of a layer differ.
absl::Status Merge(const MoeSnapshot& other, MoeSnapshot& total);

// Thread-safe. Memory: 8 bytes an expert and 8 a pair of experts, for each MoE layer that rows went
// through (58 layers of 256 experts: 15 MB).
class MoeStatistics {
 public:
  // For the MoE layers of `spec`, which need not outlive this.
  explicit MoeStatistics(const model::ModelSpec& spec);

  // Counts the rows of a pass at MoE layer `layer`, as model::RoutedRows has them: row r chose
  // experts[offsets[r] .. offsets[r + 1]), in rising order. About 2 ns a pair of a row's
  // experts where the layer's counts are in the cache (256 experts: 261 kB), 20 ns where they are
  // not; never waits for more than the copy of one layer's counts.
  void Add(int32_t layer, absl::Span<const int32_t> offsets, absl::Span<const int32_t> experts);

  // Pairs of a row and an expert that were counted since the start, resets or not.
  uint64_t routed_pairs() const { return routed_pairs_.load(std::memory_order_relaxed); }

  // Layer by layer: rows that pass meanwhile may be in one layer's counts and not in another's.
  // Without `with_pairs` the snapshot has no pairs, and is cheap.
  MoeSnapshot Snapshot(bool with_pairs) const;
  // Snapshot with pairs, and counting starts from zero: a row is in this snapshot or in a later
  // one.
  MoeSnapshot TakeAndReset();

 private:
  struct Layer {
    Layer(int32_t index, int64_t experts) : index(index), experts(experts) {}

    const int32_t index;
    const int64_t experts;
    absl::Mutex mutex;
    uint64_t rows ABSL_GUARDED_BY(mutex) = 0;
    std::vector<uint64_t> tokens ABSL_GUARDED_BY(mutex);  // empty until rows come
    std::vector<uint64_t> pairs ABSL_GUARDED_BY(mutex);
  };

  static LayerMoeCounts Copy(Layer& layer, bool with_pairs)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(layer.mutex);

  std::atomic<uint64_t> routed_pairs_ = 0;
  // unique_ptr: a Layer does not move. By layer of the model, null for dense ones.
  std::vector<std::unique_ptr<Layer>> layers_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_MOE_STATISTICS_H_
