// The distribution of one latency over a run of any length, in bounded memory.
//
// Count, mean, standard deviation and extremes are exact. Percentiles come from buckets that are
// 0.1 % wide and know the mean of what fell into them: values in buckets of their own come out as
// they went in, others within 0.1 %. At most some 40,000 buckets, of which latencies fill a few
// hundred.
#ifndef CCOE_SERVICES_CLI_LATENCY_SAMPLES_H_
#define CCOE_SERVICES_CLI_LATENCY_SAMPLES_H_

#include <cstdint>
#include <map>

namespace ccoe::cli {

// Not thread-safe.
class LatencySamples {
 public:
  // In any unit; below 0 counts as 0.
  void Add(double value);

  // All are 0 of no values.
  int64_t count() const { return count_; }
  double mean() const { return mean_; }
  double max() const { return max_; }
  // Of the whole, not of a sample of it: divided by the count.
  double StandardDeviation() const;
  // `percent` of 0 to 100; between two values it lies on the straight line, as in numpy.
  double Percentile(double percent) const;

 private:
  struct Bucket {
    int64_t count = 0;
    double sum = 0.0;
  };

  // The value at `rank` (from 0) in rising order.
  double ValueAt(int64_t rank) const;

  int64_t count_ = 0;
  double mean_ = 0.0;
  double squares_ = 0.0;  // sum of squared distances from the mean
  double max_ = 0.0;
  std::map<int, Bucket> buckets_;
};

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_LATENCY_SAMPLES_H_
