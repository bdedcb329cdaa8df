#include "runtime/exchange/swaps_in_flight.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/swap_size.h"

namespace ccoe::exchange {

absl::Status CheckSwap(const StepHeader& header, const RowBlock& block, int64_t hidden_size,
                       const StepLimits& limits, const RowMemory* memory) {
  CCOE_RETURN_IF_ERROR(Validate(header, hidden_size, limits));
  const kernels::ConstMatrix rows = block.view();
  const kernels::DType dtype = block.on_device() ? header.wire_dtype : kernels::DType::kF32;
  if (rows.dtype != dtype || rows.rows != header.rows() || rows.cols != hidden_size ||
      rows.stride < rows.cols || rows.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("rows of step ", header.step_id, ": expected [", header.rows(), ", ",
                     hidden_size, "] ", kernels::DTypeName(dtype), ", found [", rows.rows, ", ",
                     rows.cols, "] ", kernels::DTypeName(rows.dtype)));
  }
  if (!block.on_device() || block.memory() == memory) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("rows of step ", header.step_id, ": expected in ",
                   memory == nullptr ? "host memory" : "the link's memory of the device",
                   ", found in memory of ", block.memory()->device()->Name()));
}

SwapsInFlight::SwapsInFlight(Options options)
    : options_(std::move(options)), silence_(options_.silence_timeout) {
  CCOE_CHECK(options_.silence_timeout == absl::InfiniteDuration() || options_.send_heartbeat);
  watcher_ = std::thread([this] { Watch(); });
}

SwapsInFlight::~SwapsInFlight() { Stop(); }

absl::Status SwapsInFlight::RefusalLocked(const StepHeader& header, absl::Time deadline) const {
  if (!health_.ok()) return health_;
  const std::string step = absl::StrCat(options_.link_name, ": step ", header.step_id);
  if (any_sent_ && header.step_id <= last_step_) {
    return absl::InvalidArgumentError(
        absl::StrCat(step, ": expected a step id above ", last_step_, ", the last one sent"));
  }
  if (static_cast<int>(waiting_.size()) >= options_.max_swaps) {
    return absl::ResourceExhaustedError(absl::StrCat(
        step, ": ", waiting_.size(), " swaps in flight, at most ", options_.max_swaps));
  }
  if (deadline <= absl::Now()) {
    return absl::DeadlineExceededError(absl::StrCat(step, ": the deadline passed before sending"));
  }
  return absl::OkStatus();
}

bool SwapsInFlight::Begin(const StepHeader& header, absl::Time deadline, SwapCallback done) {
  absl::MutexLock lock(&mutex_);
  if (absl::Status refusal = RefusalLocked(header, deadline); !refusal.ok()) {
    deliveries_.emplace_back(std::move(done), std::move(refusal));
    wake_.Signal();
    return false;
  }
  any_sent_ = true;
  last_step_ = header.step_id;
  deadline = std::min(deadline, absl::Now() + options_.longest_wait);
  const int64_t captured =
      header.capture_layers ? header.layers.size() * header.rows() * header.hidden_size : 0;
  const int64_t bytes = SizeOf(header).total();
  waiting_.emplace(header.step_id, Waiting{deadline, header.returned_rows() * header.hidden_size,
                                           captured, bytes, std::move(done)});
  waiting_bytes_ += bytes;
  // Deadlines mostly rise and heartbeats go on between swaps, so the own thread is seldom woken.
  const bool watch = next_heartbeat_ == absl::InfiniteFuture() &&
                     options_.silence_timeout != absl::InfiniteDuration();
  if (watch || deadline < next_look_) wake_.Signal();
  return true;
}

void SwapsInFlight::Refuse(absl::Status why, SwapCallback done) {
  absl::MutexLock lock(&mutex_);
  deliveries_.emplace_back(std::move(done), Annotate(why, options_.link_name));
  wake_.Signal();
}

absl::Status SwapsInFlight::TakeLocked(uint64_t step_id, absl::StatusOr<SwapResult> result,
                                       std::vector<Delivery>& deliveries) {
  if (!health_.ok()) return absl::OkStatus();
  const auto found = waiting_.find(step_id);
  if (found == waiting_.end()) {
    return absl::InternalError(absl::StrCat(options_.link_name, ": an answer to step ", step_id,
                                            ", which is not in flight (answered twice?)"));
  }
  Waiting swap = std::move(found->second);
  waiting_.erase(found);
  waiting_bytes_ -= swap.bytes;
  absl::Status status = absl::OkStatus();
  if (result.ok() && (result->row_values() != swap.row_values ||
                      static_cast<int64_t>(result->captured.size()) != swap.captured_values)) {
    status = absl::InternalError(absl::StrCat(
        options_.link_name, ": the answer to step ", step_id, ": expected ", swap.row_values,
        " row values and ", swap.captured_values, " captured ones, found ", result->row_values(),
        " and ", result->captured.size()));
    result = status;
  } else if (!result.ok()) {
    result = Annotate(result.status(), options_.link_name);
  }
  deliveries.emplace_back(std::move(swap.done), std::move(result));
  return status;
}

absl::Status SwapsInFlight::Answer(uint64_t step_id, absl::StatusOr<SwapResult> result) {
  std::vector<Delivery> delivery;
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = TakeLocked(step_id, std::move(result), delivery);
  }
  for (auto& [done, answer] : delivery) done(std::move(answer));
  return status;
}

void SwapsInFlight::AnswerLater(uint64_t step_id, absl::StatusOr<SwapResult> result) {
  absl::MutexLock lock(&mutex_);
  const absl::Status status = TakeLocked(step_id, std::move(result), deliveries_);
  if (!status.ok()) CloseLocked(status.message());
  wake_.Signal();
}

void SwapsInFlight::CloseLocked(absl::string_view why) {
  if (!health_.ok()) return;
  health_ = absl::UnavailableError(why);
  for (auto& [step_id, swap] : waiting_) {
    deliveries_.emplace_back(std::move(swap.done), absl::UnavailableError(absl::StrCat(
                                                       why, "; step ", step_id, " was in flight")));
  }
  waiting_.clear();
  waiting_bytes_ = 0;
  wake_.Signal();
}

void SwapsInFlight::Close(absl::string_view why) {
  absl::MutexLock lock(&mutex_);
  CloseLocked(absl::StrCat(options_.link_name, ": ", why));
}

void SwapsInFlight::Stop() {
  Close("closed");
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    wake_.Signal();
  }
  if (watcher_.joinable()) watcher_.join();
}

absl::Status SwapsInFlight::Health() const {
  absl::MutexLock lock(&mutex_);
  return health_;
}

void SwapsInFlight::ExpireLocked(absl::Time now) {
  next_look_ = absl::InfiniteFuture();
  std::optional<uint64_t> missed;
  for (auto& [step_id, swap] : waiting_) {
    next_look_ = std::min(next_look_, swap.deadline);
    if (swap.deadline <= now && (!missed || step_id < *missed)) missed = step_id;
  }
  if (!missed) return;
  const std::string why =
      absl::StrCat(options_.link_name, ": no answer to step ", *missed, " by its deadline");
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    auto current = it++;
    if (current->second.deadline > now) continue;
    deliveries_.emplace_back(std::move(current->second.done), absl::DeadlineExceededError(why));
    waiting_bytes_ -= current->second.bytes;
    waiting_.erase(current);
  }
  CloseLocked(why);
}

bool SwapsInFlight::HeartbeatDueLocked(absl::Time now) {
  const bool watching = next_heartbeat_ != absl::InfiniteFuture();
  if (!health_.ok() || (watching ? now < next_heartbeat_ : waiting_.empty())) return false;
  const SilenceWatch::Verdict verdict = silence_.Look(now, !waiting_.empty(), waiting_bytes_);
  next_heartbeat_ = verdict.next_look;
  if (verdict.silent) {
    CloseLocked(absl::StrCat(options_.link_name, ": the peer is silent: no sign of life for ",
                             absl::FormatDuration(verdict.heard_nothing),
                             " while swaps were in flight"));
  }
  return health_.ok() && next_heartbeat_ != absl::InfiniteFuture();
}

void SwapsInFlight::Watch() {
  bool told_closed = false;
  while (true) {
    std::vector<Delivery> deliveries;
    bool closed = false, stop = false, heartbeat = false;
    {
      absl::MutexLock lock(&mutex_);
      const absl::Time now = absl::Now();
      ExpireLocked(now);
      heartbeat = HeartbeatDueLocked(now);
      if (!heartbeat && deliveries_.empty() && (health_.ok() || told_closed) && !stopping_) {
        wake_.WaitWithDeadline(&mutex_, std::min(next_look_, next_heartbeat_));
      }
      deliveries.swap(deliveries_);
      closed = !health_.ok();
      stop = stopping_ && deliveries.empty();
    }
    if (heartbeat) options_.send_heartbeat();
    for (auto& [done, answer] : deliveries) done(std::move(answer));
    if (closed && !told_closed) {
      told_closed = true;
      if (options_.on_closed) options_.on_closed();
    }
    if (stop && told_closed) return;
  }
}

}  // namespace ccoe::exchange
