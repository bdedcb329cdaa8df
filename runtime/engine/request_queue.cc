// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/request_queue.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/retry_hint.h"
#include "runtime/base/status_macros.h"

namespace ccoe::engine {
namespace {

constexpr absl::Duration kUnknownHint = absl::Seconds(1);
constexpr absl::Duration kShortestHint = absl::Milliseconds(10);
constexpr absl::Duration kLongestHint = absl::Minutes(1);
constexpr double kNewShare = 0.2;  // of the newest interval in the moving average

absl::Status CheckPrompt(const EngineRequest& query, const AdmissionLimits& limits,
                         bool generates) {
  const int64_t tokens = static_cast<int64_t>(query.prompt.size());
  if (tokens == 0)
    return absl::InvalidArgumentError("prompt: expected at least one token, found none");
  for (int64_t i = 0; i < tokens; ++i) {
    if (query.prompt[i] < 0 || query.prompt[i] >= limits.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("prompt: token ", i, ": expected an id 0..",
                                                     limits.vocab_size - 1, ", found ",
                                                     query.prompt[i]));
    }
  }
  const int64_t room = generates ? 1 : 0;
  if (tokens + room > limits.context_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt: expected at most ", limits.context_tokens - room,
                     " tokens (the context is ", limits.context_tokens, "), found ", tokens));
  }
  if (tokens > limits.kv_tokens) {
    return absl::ResourceExhaustedError(
        absl::StrCat("prompt: ", tokens, " tokens never fit in this worker's KV cache of ",
                     limits.kv_tokens, " tokens"));
  }
  return absl::OkStatus();
}

// Whether it wants an answer, not the scores of its prompt alone.
bool Generates(const EngineRequest& query) {
  return !((query.prompt_logits || query.prompt_hidden) && query.sampling.max_tokens == 0);
}

absl::Status CheckMoe(const MoeControl* control, const AdmissionLimits& limits) {
  if (control == nullptr || control->empty()) return absl::OkStatus();
  static const auto& without_layers = *new model::ModelSpec;
  return CheckMoeControl(*control, limits.moe_policy,
                         limits.spec != nullptr ? *limits.spec : without_layers);
}

absl::Status MissingLayers(int32_t first, int32_t last, const AdmissionLimits& limits) {
  return absl::FailedPreconditionError(absl::StrCat(
      "the query needs layers [", first, ", ", last, ") of the backbone, which holds layers [",
      limits.held_layers.first, ", ", limits.held_layers.last, ") of ", limits.layer_count));
}

}  // namespace

absl::StatusOr<uint64_t> RequestQueue::Submit(SequenceInit init) {
  absl::MutexLock lock(&mutex_);
  if (!health_.ok()) return health_;
  if (draining_ || events_.stop)
    return absl::UnavailableError("this engine is draining; ask another worker");
  if (waiting_ + static_cast<int64_t>(events_.submissions.size()) >= max_waiting_) {
    const absl::Duration hint = RetryHint();
    return WithRetryHint(
        absl::ResourceExhaustedError(absl::StrCat("the admission queue is full (", max_waiting_,
                                                  " queries wait); retry in about ",
                                                  absl::ToInt64Milliseconds(hint), " ms")),
        hint);
  }
  init.handle = ++last_handle_;
  init.seed =
      init.query.sampling.seed.value_or(seed_entropy_ + 0x9e3779b97f4a7c15ULL * init.handle);
  init.submitted = clock_.Now();
  live_.insert(init.handle);
  events_.submissions.push_back(std::move(init));
  return last_handle_;
}

void RequestQueue::Cancel(uint64_t handle) {
  absl::MutexLock lock(&mutex_);
  if (live_.contains(handle) && cancelled_.insert(handle).second) events_.cancels.push_back(handle);
}

void RequestQueue::Answer(SwapAnswer answer) {
  absl::MutexLock lock(&mutex_);
  if (!events_.stop) events_.answers.push_back(std::move(answer));
}

void RequestQueue::Stop() {
  absl::MutexLock lock(&mutex_);
  events_.stop = true;
}

void RequestQueue::Fail(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  if (health_.ok()) health_ = why;
}

absl::Status RequestQueue::Health() const {
  absl::MutexLock lock(&mutex_);
  return health_;
}

bool RequestQueue::Drain(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  const auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return live_.empty(); };
  return mutex_.AwaitWithDeadline(absl::Condition(&empty), deadline);
}

EngineLoad RequestQueue::Load() const {
  absl::MutexLock lock(&mutex_);
  EngineLoad load = load_;
  load.waiting += static_cast<int64_t>(events_.submissions.size());
  return load;
}

bool RequestQueue::HasEvents() const {
  return events_.stop || !events_.submissions.empty() || !events_.cancels.empty() ||
         !events_.answers.empty();
}

RequestQueue::Events RequestQueue::Take(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(this, &RequestQueue::HasEvents), timeout);
  waiting_ += static_cast<int64_t>(events_.submissions.size());
  Events taken = std::exchange(events_, {});
  events_.stop = taken.stop;
  return taken;
}

void RequestQueue::Publish(const Report& report, absl::Time now) {
  absl::MutexLock lock(&mutex_);
  load_ = report.load;
  waiting_ = report.fresh_waiting;
  if (report.finished.empty()) return;
  for (uint64_t handle : report.finished) {
    live_.erase(handle);
    cancelled_.erase(handle);
  }
  const double interval =
      absl::ToDoubleSeconds(now - last_finish_) / static_cast<double>(report.finished.size());
  if (last_finish_ != absl::InfinitePast()) {
    seconds_per_query_ = seconds_per_query_ == 0.0
                             ? interval
                             : (1.0 - kNewShare) * seconds_per_query_ + kNewShare * interval;
  }
  last_finish_ = now;
}

// The time in which an eighth of the queue moves on: many clients get the same answer and should
// not all come back for one place.
absl::Duration RequestQueue::RetryHint() const {
  if (seconds_per_query_ == 0.0) return kUnknownHint;
  const int64_t places = std::max<int64_t>(1, max_waiting_ / 8);
  return std::clamp(absl::Seconds(seconds_per_query_ * static_cast<double>(places)), kShortestHint,
                    kLongestHint);
}

absl::Status CheckQuery(const EngineRequest& query, const AdmissionLimits& limits) {
  SamplingParams sampling = query.sampling;
  const bool generates = Generates(query);
  if (!generates) sampling.max_tokens = 1;
  CCOE_RETURN_IF_ERROR(Validate(sampling, limits.vocab_size));
  CCOE_RETURN_IF_ERROR(CheckPrompt(query, limits, generates));
  return CheckMoe(query.moe.get(), limits);
}

absl::StatusOr<int64_t> TokensToGenerate(const EngineRequest& query, const ExpertBinding* binding,
                                         const AdmissionLimits& limits) {
  const int64_t tokens = static_cast<int64_t>(query.prompt.size());
  int64_t kv_tokens = limits.kv_tokens;
  if (binding != nullptr && binding->kv_tokens > 0) {
    kv_tokens = std::min(kv_tokens, binding->kv_tokens);
    if (tokens > binding->kv_tokens) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "prompt: ", tokens, " tokens never fit in the KV cache of ", binding->kv_tokens,
          " tokens that expert ", binding->expert.ToString(), " has on ",
          binding->worker_id.empty() ? "its workers"
                                     : absl::StrCat("worker ", binding->worker_id)));
    }
  }
  if (!Generates(query)) return 0;
  // The last token's own KV is never needed.
  const int64_t most = std::min(limits.context_tokens - tokens, kv_tokens - tokens + 1);
  return std::min(query.sampling.max_tokens, most);
}

absl::Status CheckLayers(const ExpertBinding* binding, const AdmissionLimits& limits) {
  const int32_t all = limits.layer_count;
  if (binding == nullptr) {
    if (limits.held_layers.Contains({0, all})) return absl::OkStatus();
    return Annotate(MissingLayers(0, all, limits), "a query without expert cannot run here");
  }
  const model::LayerRange layers = binding->layers;
  if (layers.first < 0 || layers.empty() || layers.last > all) {
    return absl::InternalError(absl::StrCat("expert ", binding->expert.ToString(),
                                            ": expected layers in [0, ", all, "), found [",
                                            layers.first, ", ", layers.last, ")"));
  }
  if (layers.first > limits.held_layers.last) return MissingLayers(0, layers.first, limits);
  if (layers.last < all && limits.held_layers.last < all)
    return MissingLayers(layers.last, all, limits);
  return absl::OkStatus();
}

absl::Status CheckMoeLayers(const MoeControl* control, const ExpertBinding* binding) {
  if (control == nullptr || binding == nullptr) return absl::OkStatus();
  const model::LayerRange replaced = binding->layers;
  const auto first = control->layers.lower_bound(replaced.first);
  if (first == control->layers.end() || first->first >= replaced.last) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "moe: layer ", first->first, ": expert ", binding->expert.ToString(),
      " takes the place of layers [", replaced.first, ", ", replaced.last, ") of the model"));
}

std::vector<int32_t> StopIds(const SamplingParams& sampling, const std::vector<int32_t>& eos_ids) {
  std::vector<int32_t> ids = sampling.stop_token_ids;
  if (!sampling.ignore_eos) ids.insert(ids.end(), eos_ids.begin(), eos_ids.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace ccoe::engine
