// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/readiness.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

constexpr char kBase[] = "base";

}  // namespace

Readiness::Readiness(ReadinessOptions options) : options_(std::move(options)) {
  CCOE_CHECK(options_.list_experts != nullptr && options_.probe != nullptr &&
             options_.on_change != nullptr);
  thread_ = std::thread([this] { Run(); });
}

Readiness::~Readiness() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

absl::Status Readiness::status() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

void Readiness::NoteAnswer(const std::string& expert) {
  absl::MutexLock lock(&mutex_);
  // Only targets that the prober knows: the map must not grow with what clients name.
  if (auto it = answered_.find(expert); it != answered_.end()) it->second = absl::Now();
}

void Readiness::NoteUnavailable(const std::string& expert) {
  absl::MutexLock lock(&mutex_);
  if (auto it = answered_.find(expert); it != answered_.end()) it->second = absl::InfinitePast();
}

bool Readiness::stopping() const {
  absl::MutexLock lock(&mutex_);
  return stopping_;
}

void Readiness::Run() {
  while (true) {
    absl::Status status = ProbeAll();
    bool changed;
    {
      absl::MutexLock lock(&mutex_);
      if (stopping_) return;
      changed = status.ok() != status_.ok();
      status_ = status;
    }
    if (changed) {
      if (!status.ok()) LOG(WARNING) << "not ready: " << status.message();
      options_.on_change(status.ok());
    }
    // Experts come and go between two full rounds, so the list is looked at more often than they
    // are probed.
    const absl::Duration pause = status.ok() ? options_.interval / 15 : options_.retry;
    absl::MutexLock lock(&mutex_);
    if (mutex_.AwaitWithTimeout(absl::Condition(&stopping_), pause)) return;
  }
}

absl::Status Readiness::ProbeAll() {
  CCOE_ASSIGN_OR_RETURN(const std::vector<std::string> experts, options_.list_experts());
  std::vector<std::string> targets = {kBase};
  targets.insert(targets.end(), experts.begin(), experts.end());
  {
    const std::set<std::string> known(targets.begin(), targets.end());
    absl::MutexLock lock(&mutex_);
    for (auto it = answered_.begin(); it != answered_.end();) {
      it = known.count(it->first) == 0 ? answered_.erase(it) : std::next(it);
    }
  }
  for (const std::string& target : targets) {
    if (stopping()) return absl::CancelledError("stopping");
    CCOE_RETURN_IF_ERROR(ProbeOne(target, !experts.empty()));
  }
  return absl::OkStatus();
}

absl::Status Readiness::ProbeOne(const std::string& target, bool has_experts) {
  bool answered_before;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = answered_.find(target);
    answered_before = it != answered_.end();
    if (answered_before && absl::Now() - it->second < options_.interval) return absl::OkStatus();
  }
  const absl::Status status = options_.probe(target);
  const bool left_out = target == kBase && has_experts && absl::IsFailedPrecondition(status);
  const bool busy = answered_before && absl::IsResourceExhausted(status);
  absl::MutexLock lock(&mutex_);
  if (status.ok() || left_out || busy) {
    answered_[target] = absl::Now();
    return absl::OkStatus();
  }
  answered_.erase(target);
  return Annotate(status, absl::StrCat("\"", target, "\" does not answer"));
}

}  // namespace ccoe::services
