// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/load_schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::cli {
namespace {

int64_t DrawLength(int64_t length, double ratio, std::mt19937_64& random) {
  const auto exact = static_cast<double>(length);
  const auto least = static_cast<int64_t>(std::floor(exact * (1.0 - ratio)));
  const auto most = static_cast<int64_t>(std::ceil(exact * (1.0 + ratio)));
  return std::uniform_int_distribution<int64_t>(std::max<int64_t>(least, 1), most)(random);
}

void AppendIds(int64_t count, int32_t vocabulary, std::mt19937_64& random,
               std::vector<int32_t>& ids) {
  std::uniform_int_distribution<int32_t> any(0, vocabulary - 1);
  for (int64_t i = 0; i < count; ++i) ids.push_back(any(random));
}

}  // namespace

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

LoadPrompts RandomPrompts(const RandomPromptOptions& options) {
  std::vector<int32_t> prefix;
  // The prefix is nobody's own: it has the number that no request has.
  std::mt19937_64 random = LoadRandom(options.seed, LoadStream::kPrompt, -1);
  AppendIds(options.prefix_tokens, options.vocabulary, random, prefix);
  return [options, prefix = std::move(prefix)](int64_t index) {
    std::mt19937_64 lengths = LoadRandom(options.seed, LoadStream::kLengths, index);
    const int64_t input = DrawLength(options.input_tokens, options.range_ratio, lengths);
    LoadPrompt prompt;
    prompt.output_tokens = DrawLength(options.output_tokens, options.range_ratio, lengths);
    prompt.request.id = absl::StrCat(index);
    prompt.request.token_ids = prefix;
    std::mt19937_64 ids = LoadRandom(options.seed, LoadStream::kPrompt, index);
    AppendIds(input, options.vocabulary, ids, prompt.request.token_ids);
    return prompt;
  };
}

LoadPrompts FilePrompts(std::vector<Request> requests, int64_t output_tokens) {
  const auto all = std::make_shared<const std::vector<Request>>(std::move(requests));
  return [all, output_tokens](int64_t index) {
    const auto size = static_cast<int64_t>(all->size());
    LoadPrompt prompt{(*all)[static_cast<size_t>(index % size)], output_tokens};
    if (index >= size) absl::StrAppend(&prompt.request.id, "#", index / size + 1);
    return prompt;
  };
}

absl::StatusOr<int32_t> FindVocabulary(const std::function<absl::StatusOr<bool>(int32_t)>& takes) {
  CCOE_ASSIGN_OR_RETURN(const bool any, takes(0));
  if (!any) return absl::UnimplementedError("the server takes no token ids");
  int32_t known = 0;
  int32_t unknown = std::numeric_limits<int32_t>::max();
  while (unknown - known > 1) {
    const int32_t middle = known + (unknown - known) / 2;
    CCOE_ASSIGN_OR_RETURN(const bool is_known, takes(middle));
    (is_known ? known : unknown) = middle;
  }
  return unknown;
}

}  // namespace ccoe::cli
