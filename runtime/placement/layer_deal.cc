// SPDX-License-Identifier: Apache-2.0
#include "runtime/placement/layer_deal.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <numeric>
#include <tuple>

#include "runtime/base/check.h"

namespace ccoe::placement {
namespace {

using Holders = std::vector<std::vector<int32_t>>;

// As CanDeal, with `copies` falling already.
bool CanDealSorted(absl::Span<const int32_t> copies, absl::Span<const int64_t> quotas) {
  int64_t asked = 0;
  for (size_t i = 0; i < copies.size(); ++i) {
    asked += copies[i];
    // Between the ends of a run of equal copies the condition is concave: the ends decide.
    const bool run_ends = i + 1 == copies.size() || copies[i + 1] != copies[i];
    const bool run_begins = i == 0 || copies[i - 1] != copies[i];
    if (!run_ends && !run_begins) continue;
    int64_t taken = 0;
    for (const int64_t quota : quotas)
      taken += std::min<int64_t>(quota, static_cast<int64_t>(i) + 1);
    if (asked > taken) return false;
  }
  return asked == std::accumulate(quotas.begin(), quotas.end(), int64_t{0}) &&
         std::all_of(quotas.begin(), quotas.end(), [](int64_t quota) { return quota >= 0; });
}

bool AllEqual(const LayerDeal& layer) {
  return std::all_of(layer.shares.begin(), layer.shares.end(),
                     [&](double share) { return share == layer.shares[0]; }) &&
         std::all_of(layer.copies.begin(), layer.copies.end(),
                     [&](int32_t copies) { return copies == layer.copies[0]; });
}

// Round and round through the experts, each worker taking the next block.
Holders DealBlocks(const LayerDeal& layer) {
  Holders holders(layer.shares.size());
  size_t next = 0;
  for (size_t worker = 0; worker < layer.quotas.size(); ++worker) {
    for (int64_t i = 0; i < layer.quotas[worker]; ++i) {
      holders[next].push_back(static_cast<int32_t>(worker));
      next = (next + 1) % holders.size();
    }
  }
  for (std::vector<int32_t>& workers : holders) std::sort(workers.begin(), workers.end());
  return holders;
}

class Dealer {
 public:
  explicit Dealer(const LayerDeal& layer)
      : layer_(layer),
        quotas_(layer.quotas.begin(), layer.quotas.end()),
        layer_loads_(layer.quotas.size(), 0.0) {
    order_.resize(layer.shares.size());
    std::iota(order_.begin(), order_.end(), 0);
    // Many copies first: they are the hardest to deal. Then hot before cold.
    std::stable_sort(order_.begin(), order_.end(), [&](size_t a, size_t b) {
      return std::make_tuple(-layer.copies[a], -Share(a)) <
             std::make_tuple(-layer.copies[b], -Share(b));
    });
    for (const size_t expert : order_) left_.push_back(layer.copies[expert]);
  }

  Holders Run() {
    Holders holders(order_.size());
    for (size_t i = 0; i < order_.size(); ++i) {
      const size_t expert = order_[i];
      std::vector<int32_t> workers = ByLoad(i);
      const auto rest = absl::MakeConstSpan(left_).subspan(i + 1);
      if (!Leaves(workers, rest)) workers = ByQuota(layer_.copies[expert]);
      CCOE_CHECK(Leaves(workers, rest));
      for (const int32_t worker : workers) {
        --quotas_[static_cast<size_t>(worker)];
        layer_loads_[static_cast<size_t>(worker)] += Share(expert);
      }
      std::sort(workers.begin(), workers.end());
      holders[expert] = std::move(workers);
    }
    return holders;
  }

 private:
  // Of one copy.
  double Share(size_t expert) const { return layer_.shares[expert] / layer_.copies[expert]; }

  std::vector<int32_t> Sorted(const std::function<bool(size_t, size_t)>& less) const {
    std::vector<int32_t> workers;
    for (size_t w = 0; w < quotas_.size(); ++w) {
      if (quotas_[w] > 0) workers.push_back(static_cast<int32_t>(w));
    }
    std::stable_sort(workers.begin(), workers.end(), [&](int32_t a, int32_t b) {
      return less(static_cast<size_t>(a), static_cast<size_t>(b));
    });
    return workers;
  }

  // Workers that must take all that is left go first.
  std::vector<int32_t> ByLoad(size_t place) const {
    const auto left = static_cast<int64_t>(order_.size() - place);
    std::vector<int32_t> workers = Sorted([&](size_t a, size_t b) {
      return std::make_tuple(quotas_[a] < left, layer_loads_[a], layer_.loads[a]) <
             std::make_tuple(quotas_[b] < left, layer_loads_[b], layer_.loads[b]);
    });
    workers.resize(std::min(workers.size(), static_cast<size_t>(left_[place])));
    return workers;
  }

  // The choice that always leaves the rest possible.
  std::vector<int32_t> ByQuota(int32_t copies) const {
    std::vector<int32_t> workers = Sorted([&](size_t a, size_t b) {
      return std::make_tuple(-quotas_[a], layer_loads_[a]) <
             std::make_tuple(-quotas_[b], layer_loads_[b]);
    });
    workers.resize(std::min(workers.size(), static_cast<size_t>(copies)));
    return workers;
  }

  bool Leaves(const std::vector<int32_t>& workers, absl::Span<const int32_t> rest) const {
    std::vector<int64_t> quotas = quotas_;
    for (const int32_t worker : workers) --quotas[static_cast<size_t>(worker)];
    return CanDealSorted(rest, quotas);
  }

  const LayerDeal& layer_;
  std::vector<int64_t> quotas_;      // left
  std::vector<double> layer_loads_;  // of each worker
  std::vector<size_t> order_;        // experts
  std::vector<int32_t> left_;        // their copies, falling
};

}  // namespace

bool CanDeal(absl::Span<const int32_t> copies, absl::Span<const int64_t> quotas) {
  std::vector<int32_t> falling(copies.begin(), copies.end());
  std::sort(falling.begin(), falling.end(), std::greater<>());
  return CanDealSorted(falling, quotas);
}

std::vector<std::vector<int32_t>> Deal(const LayerDeal& layer) {
  CCOE_CHECK(CanDeal(layer.copies, layer.quotas));
  if (AllEqual(layer)) return DealBlocks(layer);
  return Dealer(layer).Run();
}

}  // namespace ccoe::placement
