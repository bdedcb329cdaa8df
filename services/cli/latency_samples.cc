#include "services/cli/latency_samples.h"

#include <algorithm>
#include <cmath>

namespace ccoe::cli {
namespace {

constexpr double kWidth = 1.001;
// Values outside share the outermost buckets.
constexpr double kLeast = 1e-9;
constexpr double kMost = 1e9;

int BucketOf(double value) {
  static const double width = std::log(kWidth);
  return static_cast<int>(std::floor(std::log(std::clamp(value, kLeast, kMost)) / width));
}

}  // namespace

void LatencySamples::Add(double value) {
  value = std::max(value, 0.0);
  ++count_;
  // Welford 1962: no difference of large sums.
  const double distance = value - mean_;
  mean_ += distance / static_cast<double>(count_);
  squares_ += distance * (value - mean_);
  max_ = std::max(max_, value);
  Bucket& bucket = buckets_[BucketOf(value)];
  ++bucket.count;
  bucket.sum += value;
}

double LatencySamples::StandardDeviation() const {
  return count_ == 0 ? 0.0 : std::sqrt(squares_ / static_cast<double>(count_));
}

double LatencySamples::ValueAt(int64_t rank) const {
  for (const auto& [unused, bucket] : buckets_) {
    if (rank < bucket.count) return bucket.sum / static_cast<double>(bucket.count);
    rank -= bucket.count;
  }
  return max_;
}

double LatencySamples::Percentile(double percent) const {
  if (count_ == 0) return 0.0;
  const double place = std::clamp(percent, 0.0, 100.0) / 100.0 * static_cast<double>(count_ - 1);
  const auto below = static_cast<int64_t>(place);
  const double low = ValueAt(below);
  const double high = ValueAt(std::min(below + 1, count_ - 1));
  return low + (high - low) * (place - static_cast<double>(below));
}

}  // namespace ccoe::cli
