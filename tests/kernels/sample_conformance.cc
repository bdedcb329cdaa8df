// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "kernels/sample.h"
#include "tests/kernels/ops_conformance.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

constexpr int64_t kLargeVocab = 151936;

std::vector<SampledRow> Sample(Ops* ops, const DeviceMatrix& logits,
                               const std::vector<SampleRow>& rows) {
  std::vector<SampledRow> out(rows.size());
  EXPECT_TRUE(ops->SampleRows({logits.view(), rows}, absl::MakeSpan(out)).ok());
  return out;
}

std::vector<SampledRow> Sample(Ops* ops, const reference::Dense& logits,
                               const std::vector<SampleRow>& rows) {
  return Sample(ops, DeviceMatrix(ops, logits, DType::kF32, /*padding=*/3), rows);
}

std::vector<double> Row(const reference::Dense& m, int64_t r) {
  return {m.values.begin() + r * m.cols, m.values.begin() + (r + 1) * m.cols};
}

// Values as models have them, with some that repeat.
reference::Dense RandomLogits(int64_t rows, int64_t vocab, uint32_t seed) {
  reference::Dense logits = RandomDense(rows, vocab, DType::kF32, seed, 3.0);
  for (size_t i = 0; i + 1 < logits.values.size(); i += 5) {
    logits.values[i] = static_cast<float>(std::round(4 * logits.values[i]) / 4);
  }
  return logits;
}

// The same row again and again.
reference::Dense Repeated(const reference::Dense& row, int64_t rows) {
  reference::Dense out(rows, row.cols);
  for (int64_t r = 0; r < rows; ++r) {
    std::copy(row.values.begin(), row.values.end(), out.values.begin() + r * row.cols);
  }
  return out;
}

// Empty where the reference's slice of the drawn id holds row.uniform, but for rounding.
std::string WrongDraw(const SampleRow& row, const std::vector<double>& probability,
                      const SampledRow& sampled) {
  constexpr double kRounding = 4e-6;
  const int32_t id = sampled.token_id;
  if (id < 0 || id >= static_cast<int32_t>(probability.size())) return absl::StrCat("id ", id);
  const double begin = std::accumulate(probability.begin(), probability.begin() + id, 0.0);
  if (probability[id] > 0 && row.uniform >= begin - kRounding &&
      row.uniform <= begin + probability[id] + kRounding) {
    return "";
  }
  return absl::StrCat("id ", id, ": uniform ", row.uniform, ", slice from ", begin, " of ",
                      probability[id]);
}

// One draw for each of `count` evenly spaced uniforms.
std::vector<SampleRow> Uniforms(const SampleRow& row, int64_t count) {
  std::vector<SampleRow> rows(count, row);
  for (int64_t i = 0; i < count; ++i) rows[i].uniform = (i + 0.5) / static_cast<double>(count);
  return rows;
}

void ExpectFollowsReference(Ops* ops, const reference::Dense& logits, const SampleRow& row,
                            int64_t draws, const std::string& what) {
  const std::vector<SampleRow> rows = Uniforms(row, draws);
  const std::vector<SampledRow> sampled = Sample(ops, Repeated(logits, draws), rows);
  const std::vector<double> probability = reference::SampleProbabilities(row, logits.values);
  for (int64_t i = 0; i < draws; ++i) {
    EXPECT_EQ(WrongDraw(rows[i], probability, sampled[i]), "")
        << what << ", vocabulary " << logits.cols;
  }
}

struct Filters {
  std::string name;
  SampleRow row;
};

std::vector<Filters> AllFilters() {
  std::vector<Filters> all;
  const auto add = [&](const std::string& name, float temperature, int32_t top_k, float top_p,
                       float min_p) {
    SampleRow row;
    row.temperature = temperature;
    row.top_k = top_k;
    row.top_p = top_p;
    row.min_p = min_p;
    all.push_back({name, row});
  };
  add("none", 1.0f, 0, 1.0f, 0.0f);
  add("cold", 0.3f, 0, 1.0f, 0.0f);
  add("hot", 4.0f, 0, 1.0f, 0.0f);
  add("top-k 1", 1.0f, 1, 1.0f, 0.0f);
  add("top-k 5", 1.0f, 5, 1.0f, 0.0f);
  add("top-k of more than there are", 1.0f, 1 << 20, 1.0f, 0.0f);
  add("top-p", 1.0f, 0, 0.7f, 0.0f);
  add("top-p of nearly nothing", 1.0f, 0, 1e-30f, 0.0f);
  add("min-p", 1.0f, 0, 1.0f, 0.13f);
  add("top-k and top-p", 1.3f, 7, 0.8f, 0.0f);
  add("all", 1.7f, 20, 0.9f, 0.07f);
  return all;
}

TEST_P(OpsConformance, SamplingGreedilyTakesTheLowestIdAmongEquals) {
  for (int64_t vocab : {int64_t{1}, int64_t{7}, int64_t{33}, int64_t{1024}, kLargeVocab}) {
    reference::Dense logits = Repeated(RandomLogits(1, vocab, 11), 3);
    const int64_t first = vocab / 3, last = vocab - 1;
    logits.at(1, first) = logits.at(1, last) = 100.0;
    for (int64_t c = 0; c < vocab; ++c) logits.at(2, c) = c == first ? -0.0 : -std::abs(c - first);
    logits.at(2, last) = 0.0;
    const std::vector<SampledRow> sampled = Sample(ops_.get(), logits, std::vector<SampleRow>(3));
    const std::vector<double> row = Row(logits, 0);
    EXPECT_EQ(sampled[0].token_id, std::max_element(row.begin(), row.end()) - row.begin());
    EXPECT_EQ(sampled[1].token_id, first);
    EXPECT_EQ(sampled[2].token_id, first);  // -0 and 0 are equal
    EXPECT_EQ(sampled[0].nonfinite_id, -1);
    EXPECT_TRUE(sampled[0].best.empty());
  }
}

TEST_P(OpsConformance, SamplingFollowsTheReferenceThroughEveryFilter) {
  for (int64_t vocab : {1, 7, 40, 1024}) {
    const reference::Dense logits = RandomLogits(1, vocab, 3);
    for (const Filters& filters : AllFilters()) {
      ExpectFollowsReference(ops_.get(), logits, filters.row,
                             GetParam().slow ? 2
                             : vocab > 100   ? 16
                                             : 64,
                             filters.name);
    }
  }
}

TEST_P(OpsConformance, SamplingFollowsTheReferenceInALargeVocabulary) {
  const reference::Dense logits = RandomLogits(1, kLargeVocab, 4);
  const std::vector<Filters> all = AllFilters();
  for (const std::string name : {"none", "top-p", "all"}) {
    const auto filters =
        std::find_if(all.begin(), all.end(), [&](const Filters& f) { return f.name == name; });
    ExpectFollowsReference(ops_.get(), logits, filters->row, 2, name);
  }
}

TEST_P(OpsConformance, SamplingOverManyUniformsIsAsFrequentAsTheProbabilities) {
  const int64_t draws = GetParam().slow ? 100 : 2000;
  const reference::Dense logits = RandomLogits(1, 40, 5);
  SampleRow row;
  row.temperature = 1.5f;
  row.top_k = 30;
  row.top_p = 0.95f;
  std::vector<int> drawn(40, 0);
  for (const SampledRow& s : Sample(ops_.get(), Repeated(logits, draws), Uniforms(row, draws))) {
    ASSERT_GE(s.token_id, 0);
    ++drawn[s.token_id];
  }
  const std::vector<double> p = reference::SampleProbabilities(row, logits.values);
  for (size_t id = 0; id < p.size(); ++id) EXPECT_NEAR(drawn[id], p[id] * draws, 1.1) << id;
}

TEST_P(OpsConformance, SamplingAppliesPenaltiesAndHoldsIdsBack) {
  const std::vector<TokenCount> counts = {{0, 0}, {1, 3}, {2, 0}, {3, 1}, {39, 2}, {20, 7}};
  const std::vector<int32_t> held_back = {7, 8, 3, 8};
  const reference::Dense logits = RandomLogits(1, 40, 6);
  SampleRow row;
  row.counts = counts;
  row.held_back = held_back;
  row.repetition_penalty = 1.3f;
  row.presence_penalty = 0.5f;
  row.frequency_penalty = 0.25f;
  ExpectFollowsReference(ops_.get(), logits, row, 1, "greedy");
  for (const Filters& filters : AllFilters()) {
    row.temperature = filters.row.temperature;
    row.top_k = filters.row.top_k;
    row.top_p = filters.row.top_p;
    row.min_p = filters.row.min_p;
    ExpectFollowsReference(ops_.get(), logits, row, GetParam().slow ? 2 : 64, filters.name);
  }
}

TEST_P(OpsConformance, SamplingLeavesTheLogitsAsTheyWere) {
  const std::vector<TokenCount> counts = {{0, 3}};
  const std::vector<int32_t> held_back = {5};
  const reference::Dense values = RandomLogits(2, 70, 6);
  DeviceMatrix logits(ops_.get(), values, DType::kF32);
  SampleRow row;
  row.counts = counts;
  row.held_back = held_back;
  row.frequency_penalty = 1.0f;
  Sample(ops_.get(), logits, {row, row});
  EXPECT_EQ(FirstBitDifference(logits.Download(), values), "");
}

TEST_P(OpsConformance, SamplingWithEveryIdHeldBackGivesNone) {
  const std::vector<int32_t> held_back = {0, 1, 2}, some = {0, 2};
  const reference::Dense logits = RandomLogits(1, 3, 1);
  for (float temperature : {0.0f, 1.0f}) {
    SampleRow row;
    row.temperature = temperature;
    row.held_back = held_back;
    SampleRow other = row;
    other.held_back = some;
    other.top_k = 2;
    const std::vector<SampledRow> sampled = Sample(ops_.get(), Repeated(logits, 2), {row, other});
    EXPECT_EQ(sampled[0].token_id, -1);
    EXPECT_EQ(sampled[0].nonfinite_id, -1);
    EXPECT_EQ(sampled[1].token_id, 1);
  }
}

TEST_P(OpsConformance, SamplingNamesTheLowestIdThatIsNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (int64_t vocab : {int64_t{100}, kLargeVocab}) {
    reference::Dense logits = Repeated(RandomLogits(1, vocab, 1), 4);
    logits.at(0, 93) = std::numeric_limits<float>::quiet_NaN();
    logits.at(0, vocab - 1) = infinity;
    logits.at(1, vocab - 1) = infinity;
    logits.at(2, 0) = -infinity;
    for (float temperature : {0.0f, 1.0f}) {
      SampleRow row;
      row.temperature = temperature;
      row.logprobs = 2;
      const std::vector<SampledRow> sampled =
          Sample(ops_.get(), logits, std::vector<SampleRow>(4, row));
      const int64_t expected[] = {93, vocab - 1, 0, -1};
      for (int r = 0; r < 4; ++r) {
        EXPECT_EQ(sampled[r].nonfinite_id, expected[r]);
        EXPECT_EQ(sampled[r].token_id < 0, r < 3);
      }
    }
  }
}

// `count` highest ids, ties to the lower id.
std::vector<int32_t> MostLikely(const std::vector<double>& logits, size_t count) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  ids.resize(std::min(count, ids.size()));
  return ids;
}

TEST_P(OpsConformance, SamplingLogprobsAreOfTheLogitsAsTheyCame) {
  const std::vector<TokenCount> counts = {{0, 5}};
  for (int64_t vocab : {int64_t{1}, int64_t{7}, int64_t{1024}, kLargeVocab}) {
    const reference::Dense logits = RandomLogits(1, vocab, 8);
    std::vector<SampleRow> rows;
    for (int32_t logprobs : {0, 1, 2, 5, 20}) {
      SampleRow row;
      row.logprobs = logprobs;
      row.temperature = logprobs == 2 ? 1.0f : 0.0f;
      row.uniform = 0.5;
      row.counts = counts;
      row.frequency_penalty = 2.0f;
      rows.push_back(row);
    }
    const std::vector<SampledRow> sampled = Sample(ops_.get(), Repeated(logits, rows.size()), rows);
    const std::vector<double> expected = reference::LogSoftmax(logits.values);
    const std::vector<int32_t> likely = MostLikely(logits.values, 20);
    for (size_t r = 0; r < rows.size(); ++r) {
      ASSERT_GE(sampled[r].token_id, 0);
      EXPECT_NEAR(sampled[r].logprob, expected[sampled[r].token_id], 3e-6);
      ASSERT_EQ(sampled[r].best.size(), std::min<size_t>(rows[r].logprobs, likely.size()));
      for (size_t i = 0; i < sampled[r].best.size(); ++i) {
        EXPECT_EQ(sampled[r].best[i].id, likely[i]) << i;
        EXPECT_NEAR(sampled[r].best[i].logprob, expected[likely[i]], 3e-6);
      }
    }
  }
}

TEST_P(OpsConformance, SamplingAmongEqualsKeepsTheLowerIds) {
  for (int64_t vocab : {int64_t{10}, int64_t{1000}, int64_t{5000}}) {
    reference::Dense logits(1, vocab);
    std::fill(logits.values.begin(), logits.values.end(), 0.5);
    logits.values[vocab / 2] = 2.5;
    SampleRow top_k, top_p, both;
    top_k.temperature = top_p.temperature = both.temperature = 2.0f;
    top_k.top_k = both.top_k = static_cast<int32_t>(vocab / 4);
    top_p.top_p = both.top_p = 0.5f;
    top_k.logprobs = 4;
    const int draws = GetParam().slow ? 3 : 50;
    ExpectFollowsReference(ops_.get(), logits, top_k, draws, "top-k");
    ExpectFollowsReference(ops_.get(), logits, top_p, draws, "top-p");
    ExpectFollowsReference(ops_.get(), logits, both, draws, "both");
    const SampledRow sampled = Sample(ops_.get(), logits, {top_k})[0];
    std::vector<int32_t> best;
    for (const TokenLogprob& b : sampled.best) best.push_back(b.id);
    EXPECT_EQ(best, (std::vector<int32_t>{static_cast<int32_t>(vocab / 2), 0, 1, 2}));
  }
}

TEST_P(OpsConformance, SamplingOfExtremeValuesStaysInRange) {
  const std::vector<TokenCount> counts = {{1, 0}, {2, 0}};
  reference::Dense logits(1, 3);
  logits.values = {3e38f, 2e38f, -3e38f};
  for (float top_p : {1.0f, 0.5f}) {
    for (int32_t top_k : {0, 2}) {
      SampleRow row;
      row.temperature = 1e-38f;
      row.repetition_penalty = 1e-38f;
      row.top_p = top_p;
      row.top_k = top_k;
      row.uniform = std::nextafter(1.0, 0.0);
      row.counts = counts;
      row.logprobs = 1;
      const SampledRow sampled = Sample(ops_.get(), logits, {row})[0];
      EXPECT_EQ(sampled.token_id, 1);
      EXPECT_EQ(sampled.best[0].id, 0);
    }
  }
}

TEST_P(OpsConformance, SamplingNoRowsIsNothing) {
  EXPECT_TRUE(ops_->SampleRows({F32Matrix(static_cast<const float*>(nullptr), 0, 9), {}}, {}).ok());
}

TEST_P(OpsDeterminism, ARowGivesTheSameTokenAloneAndAmongOthers) {
  constexpr int64_t kRows = 22, kVocab = 2000;
  const reference::Dense logits = RandomLogits(kRows, kVocab, 9);
  const std::vector<TokenCount> counts = {{3, 1}, {1999, 2}};
  const std::vector<int32_t> held_back = {0, 77};
  const std::vector<Filters> filters = AllFilters();
  std::vector<SampleRow> rows;
  for (int64_t r = 0; r < kRows; ++r) {
    rows.push_back(filters[r % filters.size()].row);
    rows.back().uniform = (r + 0.25) / kRows;
    rows.back().logprobs = static_cast<int32_t>(r % 4) - 1;
    if (r % 3 == 0) rows.back().counts = counts;
    if (r % 5 == 0) rows.back().held_back = held_back;
    rows.back().presence_penalty = 1.0f;
  }
  const std::vector<SampledRow> all = Sample(ops_.get(), logits, rows);
  for (int64_t r = 0; r < kRows; ++r) {
    const SampledRow alone = Sample(ops_.get(), Rows(logits, r, 1), {rows[r]})[0];
    EXPECT_EQ(alone.token_id, all[r].token_id) << r;
    EXPECT_EQ(alone.logprob, all[r].logprob) << r;
    ASSERT_EQ(alone.best.size(), all[r].best.size()) << r;
    for (size_t i = 0; i < alone.best.size(); ++i) {
      EXPECT_EQ(alone.best[i].id, all[r].best[i].id) << r;
      EXPECT_EQ(alone.best[i].logprob, all[r].best[i].logprob) << r;
    }
  }
}

}  // namespace
}  // namespace ccoe::kernels
