#include "services/cli/load_schedule.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ccoe::cli {

std::mt19937_64 LoadRandom(uint64_t seed, LoadStream stream, int64_t index) {
  const auto low = [](uint64_t value) { return static_cast<uint32_t>(value); };
  const auto high = [](uint64_t value) { return static_cast<uint32_t>(value >> 32); };
  const auto number = static_cast<uint64_t>(index);
  std::seed_seq seeds{low(seed), high(seed), static_cast<uint32_t>(stream), low(number),
                      high(number)};
  return std::mt19937_64(seeds);
}

Arrivals::Arrivals(const ArrivalOptions& options)
    : all_at_once_(std::isinf(options.rate)),
      random_(LoadRandom(options.seed, LoadStream::kArrivals, 0)),
      gap_seconds_(options.burstiness,
                   all_at_once_ ? 1.0 : 1.0 / (options.rate * options.burstiness)) {}

absl::Duration Arrivals::Next() {
  if (all_at_once_) return absl::ZeroDuration();
  due_seconds_ += gap_seconds_(random_);
  return absl::Seconds(due_seconds_);
}

ExpertChoice::ExpertChoice(std::vector<std::string> experts, double exponent, uint64_t seed)
    : experts_(std::move(experts)), seed_(seed) {
  double sum = 0.0;
  for (size_t k = 1; k <= experts_.size(); ++k) {
    sum += std::pow(static_cast<double>(k), -exponent);
    cumulative_.push_back(sum);
  }
}

std::string ExpertChoice::Expert(int64_t index) const {
  if (experts_.empty()) return "";
  std::mt19937_64 random = LoadRandom(seed_, LoadStream::kExpert, index);
  const double drawn = std::uniform_real_distribution<double>(0.0, cumulative_.back())(random);
  const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end(), drawn);
  // Rounding may draw the upper end itself.
  const auto rank = std::min<size_t>(found - cumulative_.begin(), experts_.size() - 1);
  return experts_[rank];
}

}  // namespace ccoe::cli
