// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/link_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/swap_result.h"

namespace ccoe::exchange {
namespace {

// For people: no more digits than they read.
std::string Ago(absl::Duration time) {
  return absl::FormatDuration(absl::Trunc(time, absl::Milliseconds(1)));
}

// Looks, and with them heartbeats, in the time of silence that is allowed.
constexpr int kLooks = 4;
// A message is heard when it has come whole, so large ones on a slow network need patience: a
// network of 1 Gbit/s carries a little more.
constexpr double kSlowBytesPerSecond = 100e6;

}  // namespace

LinkTable::LinkTable(Options options)
    : options_(std::move(options)), clock_(ClockOr(options_.clock)), watch_(options_.patience) {
  CCOE_CHECK(options_.patience.silence == absl::InfiniteDuration() || options_.send_heartbeat);
  next_idle_ = clock_.Now() + options_.idle_heartbeat;
  watcher_ = std::thread([this] { Watch(); });
}

LinkTable::~LinkTable() { Stop(); }

absl::Status LinkTable::Check(const Envelope& envelope) const {
  CCOE_RETURN_IF_ERROR(Validate(envelope, options_.hidden_size, options_.limits, options_.memory));
  const SwapBytes bytes = SizeOf(envelope);
  if (bytes.sent <= options_.max_bytes && bytes.returned <= options_.max_bytes) {
    return absl::OkStatus();
  }
  return SwapError(
      SwapReason::kInvalid,
      absl::StrCat("sends ", bytes.sent, " bytes of rows and asks for ", bytes.returned,
                   ": expected at most ", options_.max_bytes, " each way; send fewer rows a step"));
}

absl::Status LinkTable::RefusalLocked(const Envelope& envelope, const SwapCredit& cost) const {
  if (!health_.ok()) return health_;
  if (envelope.swaps.front().header.id <= last_id_) {
    return SwapError(SwapReason::kInvalid,
                     absl::StrCat(options_.link_name, ": swap ", envelope.swaps.front().header.id,
                                  ": expected an id above ", last_id_, ", the last one sent"));
  }
  const SwapCredit after = in_flight_ + cost;
  if (options_.capacity.Covers(after)) return absl::OkStatus();
  // What could never fit is not worth another try.
  return SwapError(
      options_.capacity.Covers(cost) ? SwapReason::kLinkFull : SwapReason::kInvalid,
      absl::StrCat(options_.link_name, ": the link is full: with step ", envelope.step_id, " ",
                   after.swaps, " swaps of ", after.bytes, " bytes would be in flight, at most ",
                   options_.capacity.swaps, " and ", options_.capacity.bytes));
}

bool LinkTable::Begin(const Envelope& envelope, SwapCallback done) {
  absl::Status refusal = Check(envelope);
  if (!refusal.ok()) refusal = Annotate(refusal, options_.link_name);
  const SwapCredit cost = refusal.ok() ? CostOf(envelope) : SwapCredit();
  auto shared = std::make_shared<SwapCallback>(std::move(done));
  const absl::Time now = clock_.Now();
  absl::MutexLock lock(&mutex_);
  if (refusal.ok()) refusal = RefusalLocked(envelope, cost);
  if (!refusal.ok()) {
    for (const Swap& swap : envelope.swaps) {
      deliveries_.push_back({swap.header.id, shared, refusal});
    }
    wake_.Signal();
    return false;
  }
  for (const Swap& swap : envelope.swaps) {
    entries_[swap.header.id] = {std::make_shared<const SwapHeader>(swap.header), shared, false,
                                false, now};
  }
  last_id_ = envelope.swaps.back().header.id;
  in_flight_ += cost;
  // Heartbeats go on between swaps, so the own thread is seldom woken.
  if (next_look_ == absl::InfiniteFuture() &&
      options_.patience.silence != absl::InfiniteDuration()) {
    wake_.Signal();
  }
  return true;
}

SwapCredit LinkTable::StartSending(Envelope& envelope) {
  SwapCredit dropped;
  const absl::Time now = clock_.Now();
  absl::MutexLock lock(&mutex_);
  const auto gone = [&](const Swap& swap) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = entries_.find(swap.header.id);
    if (found != entries_.end() && found->second.done != nullptr) {
      found->second.sent = true;
      found->second.since = now;
      sent_bytes_ += CostOf(swap.header).bytes;
      return false;
    }
    const SwapCredit cost = CostOf(swap.header);
    dropped += cost;
    if (found != entries_.end()) {
      in_flight_ -= cost;
      entries_.erase(found);
    }
    return true;
  };
  auto& swaps = envelope.swaps;
  swaps.erase(std::remove_if(swaps.begin(), swaps.end(), gone), swaps.end());
  return dropped;
}

std::vector<uint64_t> LinkTable::Cancel(const std::vector<uint64_t>& swap_ids) {
  std::vector<uint64_t> told;
  absl::MutexLock lock(&mutex_);
  for (const uint64_t id : swap_ids) {
    const auto found = entries_.find(id);
    if (found == entries_.end() || found->second.done == nullptr) continue;
    Entry& entry = found->second;
    if (entry.sent) {
      if (!std::exchange(entry.cancel_told, true)) told.push_back(id);
      continue;
    }
    // Its rows lie in the queue until its envelope's turn comes, and count as long.
    deliveries_.push_back(
        {id, std::exchange(entry.done, nullptr),
         SwapError(SwapReason::kCancelled, absl::StrCat(options_.link_name, ": swap ", id,
                                                        " was cancelled before it was sent"))});
  }
  if (!deliveries_.empty()) wake_.Signal();
  return told;
}

std::shared_ptr<const SwapHeader> LinkTable::Find(uint64_t swap_id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(swap_id);
  return found == entries_.end() || !found->second.sent ? nullptr : found->second.header;
}

absl::Status LinkTable::TakeLocked(uint64_t swap_id, absl::StatusOr<SwapResult> result,
                                   std::vector<Delivery>& deliveries) {
  if (!health_.ok()) return absl::OkStatus();
  const auto found = entries_.find(swap_id);
  if (found == entries_.end() || !found->second.sent) {
    return absl::InternalError(absl::StrCat(options_.link_name, ": an answer to swap ", swap_id,
                                            ", which is not in flight (answered twice?)"));
  }
  Entry entry = std::move(found->second);
  entries_.erase(found);
  in_flight_ -= CostOf(*entry.header);
  sent_bytes_ -= CostOf(*entry.header).bytes;
  watch_.Progressed();
  absl::Status status = absl::OkStatus();
  if (result.ok()) {
    status = CheckResult(*entry.header, *result);
    if (!status.ok()) result = status = Annotate(status, options_.link_name);
  } else {
    result = Annotate(result.status(), options_.link_name);
  }
  deliveries.push_back({swap_id, std::move(entry.done), std::move(result)});
  return status;
}

absl::Status LinkTable::Answer(uint64_t swap_id, absl::StatusOr<SwapResult> result) {
  std::vector<Delivery> delivery;
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = TakeLocked(swap_id, std::move(result), delivery);
  }
  Deliver(delivery);
  return status;
}

void LinkTable::AnswerLater(uint64_t swap_id, absl::StatusOr<SwapResult> result) {
  absl::MutexLock lock(&mutex_);
  const absl::Status status = TakeLocked(swap_id, std::move(result), deliveries_);
  if (!status.ok()) CloseLocked(status.message());
  wake_.Signal();
}

void LinkTable::Heard(const HostProgress& progress, uint64_t taken_in) {
  watch_.Heard();
  const absl::Time now = clock_.Now();
  absl::MutexLock lock(&mutex_);
  if (progress.passes != progress_.passes) watch_.Progressed();
  progress_ = progress;
  progress_time_ = now;
  taken_in_ = taken_in;
}

void LinkTable::CloseLocked(absl::string_view why) {
  if (!health_.ok()) return;
  health_ = SwapError(SwapReason::kLinkBroken, why);
  healthy_.store(false, std::memory_order_release);
  for (auto& [id, entry] : entries_) {
    if (entry.done == nullptr) continue;
    deliveries_.push_back(
        {id, std::move(entry.done),
         SwapError(SwapReason::kLinkBroken, absl::StrCat(why, "; swap ", id, " was in flight"))});
  }
  entries_.clear();
  in_flight_ = {};
  sent_bytes_ = 0;
  next_look_ = absl::InfiniteFuture();
  wake_.Signal();
}

void LinkTable::Close(absl::string_view why) {
  absl::MutexLock lock(&mutex_);
  CloseLocked(absl::StrCat(options_.link_name, ": ", why));
}

void LinkTable::Stop() {
  Close("closed");
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    wake_.Signal();
  }
  if (watcher_.joinable()) watcher_.join();
}

absl::Status LinkTable::Health() const {
  absl::MutexLock lock(&mutex_);
  return health_;
}

std::string LinkTable::ComputingLocked(absl::Time now) const {
  if (progress_.computing.empty()) return "computes nothing";
  return absl::StrCat("computes ", progress_.computing, " since ",
                      Ago(progress_.since + (now - progress_time_)));
}

std::string LinkTable::WhereIs(uint64_t swap_id) const {
  const absl::Time now = clock_.Now();
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(swap_id);
  if (found == entries_.end() || found->second.done == nullptr) return "not in flight";
  if (!found->second.sent) return "waits to be sent";
  if (swap_id > taken_in_) {
    return absl::StrCat("sent, not taken in by the worker for ", Ago(now - found->second.since));
  }
  return absl::StrCat("waits at the worker, which ", ComputingLocked(now));
}

bool LinkTable::HeartbeatDueLocked(absl::Time now) {
  const bool watching = next_look_ != absl::InfiniteFuture();
  if (!health_.ok() || (watching ? now < next_look_ : entries_.empty())) return false;
  const PeerWatch::Verdict verdict = watch_.Look(now, !entries_.empty(), sent_bytes_);
  next_look_ = verdict.next_look;
  if (verdict.silent) {
    CloseLocked(absl::StrCat(options_.link_name, ": the peer is silent: no sign of life for ",
                             Ago(verdict.heard_nothing), " while swaps were in flight"));
  } else if (verdict.stalled) {
    CloseLocked(absl::StrCat(options_.link_name,
                             ": the peer has stalled: it answers, but ended no "
                             "pass for ",
                             Ago(verdict.no_progress), " and ", ComputingLocked(now)));
  }
  return health_.ok() && next_look_ != absl::InfiniteFuture();
}

bool LinkTable::IdleHeartbeatDueLocked(absl::Time now) {
  if (!health_.ok() || next_look_ != absl::InfiniteFuture() || now < next_idle_) return false;
  next_idle_ = now + options_.idle_heartbeat;
  return options_.idle_heartbeat != absl::InfiniteDuration();
}

void LinkTable::Deliver(std::vector<Delivery>& deliveries) {
  for (Delivery& each : deliveries) (*each.done)(each.swap_id, std::move(each.result));
}

void LinkTable::Watch() {
  bool told_closed = false;
  while (true) {
    std::vector<Delivery> deliveries;
    bool closed = false, stop = false, heartbeat = false;
    {
      absl::MutexLock lock(&mutex_);
      const absl::Time now = clock_.Now();
      heartbeat = HeartbeatDueLocked(now) || IdleHeartbeatDueLocked(now);
      if (!heartbeat && deliveries_.empty() && (health_.ok() || told_closed) && !stopping_) {
        const bool idle = health_.ok() && next_look_ == absl::InfiniteFuture();
        wake_.WaitWithTimeout(&mutex_, (idle ? next_idle_ : next_look_) - now);
      }
      deliveries.swap(deliveries_);
      closed = !health_.ok();
      stop = stopping_ && deliveries.empty();
    }
    if (heartbeat) options_.send_heartbeat();
    Deliver(deliveries);
    if (closed && !told_closed) {
      told_closed = true;
      if (options_.on_closed) options_.on_closed();
    }
    if (stop && told_closed) return;
  }
}

void PeerWatch::Count(const std::atomic<uint64_t>& counter, bool anew, absl::Duration step,
                      Still& still) {
  const uint64_t now = counter.load(std::memory_order_relaxed);
  still.time = anew || now != still.then ? absl::ZeroDuration() : still.time + step;
  still.then = now;
}

PeerWatch::Verdict PeerWatch::Look(absl::Time now, bool in_flight, int64_t bytes) {
  Verdict verdict;
  if (patience_.silence == absl::InfiniteDuration()) return verdict;
  const absl::Duration interval = patience_.silence / kLooks;
  const bool anew = !in_flight || last_look_ == absl::InfinitePast();
  const absl::Duration step =
      anew ? absl::ZeroDuration()
           : std::clamp(now - last_look_, absl::ZeroDuration(), 2 * interval);
  Count(heard_, anew, step, silence_);
  Count(progressed_, anew, step, stall_);
  last_look_ = in_flight ? now : absl::InfinitePast();
  if (!in_flight) return verdict;
  const absl::Duration slack = absl::Seconds(static_cast<double>(bytes) / kSlowBytesPerSecond);
  verdict.heard_nothing = silence_.time;
  verdict.silent = silence_.time >= patience_.silence + slack;
  verdict.no_progress = stall_.time;
  verdict.stalled = stall_.time >= patience_.stall + slack;
  verdict.next_look = now + interval;
  return verdict;
}

}  // namespace ccoe::exchange
