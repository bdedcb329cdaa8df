// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/request.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/status_macros.h"

namespace ccoe::engine {
namespace {

constexpr size_t kMaxStopTokens = 64;
constexpr int32_t kMaxLogprobs = 20;

template <typename T>
absl::Status OutOfRange(absl::string_view name, absl::string_view range, T found) {
  return absl::InvalidArgumentError(
      absl::StrCat("sampling: ", name, ": expected ", range, ", found ", found));
}

// The conditions are written so that NaN fails them.
absl::Status ValidateFilters(const SamplingParams& p) {
  if (!(p.temperature >= 0.0f && p.temperature <= 10.0f)) {
    return OutOfRange("temperature", "0..10", p.temperature);
  }
  if (p.top_k < 0) return OutOfRange("top_k", "0 (off) or more", p.top_k);
  if (!(p.top_p > 0.0f && p.top_p <= 1.0f)) {
    return OutOfRange("top_p", "more than 0 and at most 1", p.top_p);
  }
  if (!(p.min_p >= 0.0f && p.min_p < 1.0f)) {
    return OutOfRange("min_p", "0 or more and less than 1", p.min_p);
  }
  return absl::OkStatus();
}

absl::Status ValidatePenalties(const SamplingParams& p) {
  if (!(p.repetition_penalty > 0.0f && p.repetition_penalty <= 10.0f)) {
    return OutOfRange("repetition_penalty", "more than 0 and at most 10", p.repetition_penalty);
  }
  if (!(p.presence_penalty >= -2.0f && p.presence_penalty <= 2.0f)) {
    return OutOfRange("presence_penalty", "-2..2", p.presence_penalty);
  }
  if (!(p.frequency_penalty >= -2.0f && p.frequency_penalty <= 2.0f)) {
    return OutOfRange("frequency_penalty", "-2..2", p.frequency_penalty);
  }
  return absl::OkStatus();
}

absl::Status ValidateStops(const SamplingParams& p, int64_t vocab_size) {
  if (p.stop_token_ids.size() > kMaxStopTokens) {
    return OutOfRange("stop_token_ids", absl::StrCat("at most ", kMaxStopTokens, " ids"),
                      p.stop_token_ids.size());
  }
  for (int32_t id : p.stop_token_ids) {
    if (id < 0 || id >= vocab_size) {
      return OutOfRange("stop_token_ids", absl::StrCat("ids 0..", vocab_size - 1), id);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Validate(const SamplingParams& params, int64_t vocab_size) {
  CCOE_RETURN_IF_ERROR(ValidateFilters(params));
  CCOE_RETURN_IF_ERROR(ValidatePenalties(params));
  CCOE_RETURN_IF_ERROR(ValidateStops(params, vocab_size));
  if (params.max_tokens <= 0) return OutOfRange("max_tokens", "1 or more", params.max_tokens);
  if (params.min_tokens < 0 || params.min_tokens > params.max_tokens) {
    return OutOfRange("min_tokens", absl::StrCat("0..max_tokens (", params.max_tokens, ")"),
                      params.min_tokens);
  }
  if (params.logprobs < -1 || params.logprobs > kMaxLogprobs) {
    return OutOfRange("logprobs", absl::StrCat("-1 (none) or 0..", kMaxLogprobs), params.logprobs);
  }
  return absl::OkStatus();
}

}  // namespace ccoe::engine
