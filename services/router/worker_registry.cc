// SPDX-License-Identifier: Apache-2.0
#include "services/router/worker_registry.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/ids.h"
#include "runtime/base/status_macros.h"
#include "services/common/channel_factory.h"
#include "services/common/model_report.h"

namespace ccoe::services {
namespace {

constexpr size_t kMaxFailureBytes = 1024;
constexpr size_t kShownDigest = 16;  // characters of a digest in messages

absl::Status CheckAddress(const std::string& address) {
  if (address.size() > kMaxAddressBytes) {
    return absl::InvalidArgumentError(absl::StrCat("address: expected at most ", kMaxAddressBytes,
                                                   " bytes, found ", address.size()));
  }
  if (IsInProcess(address)) return absl::OkStatus();
  return ParseHostPort(address).status();
}

absl::Status CheckHeldExpert(const v1::HeldExpert& held) {
  const v1::ExpertInfo& info = held.info();
  const std::string name = info.expert().name();
  CCOE_RETURN_IF_ERROR(ExpertRef::Parse(name).status());
  if (name.find('@') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("expert \"", name, "\": expected a name without a version"));
  }
  if (name == "base") {
    return absl::InvalidArgumentError(
        "expert \"base\": the name means the base model's own layers");
  }
  if (info.expert().version() < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expert \"", name, "\": version: expected 1 or more, found ", info.expert().version()));
  }
  if (held.ByteSizeLong() > kMaxExpertInfoBytes) {
    return absl::InvalidArgumentError(absl::StrCat("expert \"", name, "\": expected at most ",
                                                   kMaxExpertInfoBytes, " bytes about it, found ",
                                                   held.ByteSizeLong()));
  }
  if (info.first_layer() < 0 || info.last_layer() <= info.first_layer()) {
    return absl::InvalidArgumentError(absl::StrCat("expert \"", name, "\": layers [",
                                                   info.first_layer(), ", ", info.last_layer(),
                                                   ") are none"));
  }
  return absl::OkStatus();
}

absl::Status CheckHeldExperts(const v1::WorkerReport& report) {
  if (report.experts_size() > kMaxHeldExperts) {
    return absl::InvalidArgumentError(absl::StrCat(
        "held experts: expected at most ", kMaxHeldExperts, ", found ", report.experts_size()));
  }
  std::set<std::pair<std::string, int64_t>> seen;
  for (const v1::HeldExpert& held : report.experts()) {
    CCOE_RETURN_IF_ERROR(CheckHeldExpert(held));
    const v1::Expert& expert = held.info().expert();
    if (!seen.insert({expert.name(), expert.version()}).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("expert \"", expert.name(), "@", expert.version(), "\" is listed twice"));
    }
  }
  return absl::OkStatus();
}

// Whether a worker still has what it had.
bool SameWeights(const v1::WorkerReport& a, const v1::WorkerReport& b) {
  if (a.weights().source() != b.weights().source() || a.experts_size() != b.experts_size()) {
    return false;
  }
  for (int i = 0; i < a.experts_size(); ++i) {
    const v1::HeldExpert &x = a.experts(i), &y = b.experts(i);
    if (x.weights_digest() != y.weights_digest() || x.base_fingerprint() != y.base_fingerprint() ||
        x.info().first_layer() != y.info().first_layer() ||
        x.info().last_layer() != y.info().last_layer() ||
        x.info().expert().name() != y.info().expert().name() ||
        x.info().expert().version() != y.info().expert().version()) {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::Status WorkerRegistry::CheckReport(const v1::WorkerReport& report) const {
  if (report.protocol_version() != kProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("protocol version: the router speaks ", kProtocolVersion, ", the worker ",
                     report.protocol_version(), "; run the same release everywhere"));
  }
  if (report.worker_id().empty() || report.worker_id().size() > kMaxWorkerIdBytes) {
    return absl::InvalidArgumentError(absl::StrCat("worker id: expected 1 to ", kMaxWorkerIdBytes,
                                                   " bytes, found ", report.worker_id().size()));
  }
  for (const std::string* text : {&report.worker_id(), &report.numerics()}) {
    if (std::all_of(text->begin(), text->end(), absl::ascii_isprint)) continue;
    return absl::InvalidArgumentError("worker id, numerics: expected printable ASCII characters");
  }
  if (report.role() != v1::WORKER_ROLE_BACKBONE && report.role() != v1::WORKER_ROLE_EXPERT) {
    return absl::InvalidArgumentError(
        absl::StrCat("role: expected backbone or expert, found ", static_cast<int>(report.role())));
  }
  CCOE_RETURN_IF_ERROR(CheckAddress(report.address()));
  const std::string& model = report.model_fingerprint();
  if (model.size() > kMaxWorkerIdBytes) {
    return absl::InvalidArgumentError("model fingerprint: longer than a digest");
  }
  if (!model_fingerprint_.empty() && !model.empty() && model != model_fingerprint_) {
    return absl::FailedPreconditionError(absl::StrCat("model: the cluster serves ",
                                                      absl::CEscape(model_fingerprint_),
                                                      ", the worker ", absl::CEscape(model)));
  }
  if (report.numerics().size() > kMaxWorkerIdBytes || report.failure().size() > kMaxFailureBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "numerics, failure: expected at most ", kMaxWorkerIdBytes, " and ", kMaxFailureBytes,
        " bytes, found ", report.numerics().size(), " and ", report.failure().size()));
  }
  if (report.weights().source().size() > kMaxWorkerIdBytes) {
    return absl::InvalidArgumentError("digest of the base's weights: longer than a digest");
  }
  CCOE_RETURN_IF_ERROR(FfnShardFromProto(report.ffn_shard()).status());
  return CheckHeldExperts(report);
}

// Against what the other workers have: names are not enough.
absl::Status WorkerRegistry::CheckWeights(const v1::WorkerReport& report) const {
  std::map<ExpertRef, const v1::HeldExpert*> held;
  for (const v1::HeldExpert& expert : report.experts()) {
    held[{expert.info().expert().name(), expert.info().expert().version()}] = &expert;
  }
  for (const auto& [id, worker] : workers_) {
    if (id == report.worker_id()) continue;  // it takes its place
    // One that is silent may be the one that this worker is to replace.
    const auto refuse = [&](std::string text) {
      return IsSilent(worker)
                 ? absl::UnavailableError(absl::StrCat(text, "; worker ", absl::CEscape(id),
                                                       " is silent: asked again"))
                 : absl::FailedPreconditionError(text);
    };
    const std::string& source = worker.report.weights().source();
    if (!MayBeSameWeights(source, report.weights().source())) {
      return refuse(absl::StrCat("weights of the base: worker ", absl::CEscape(id), " has ",
                                 absl::CEscape(source.substr(0, kShownDigest)), ", this one ",
                                 absl::CEscape(report.weights().source().substr(0, kShownDigest)),
                                 " (SHA-256): one cluster serves one checkpoint"));
    }
    for (const v1::HeldExpert& theirs : worker.report.experts()) {
      const auto ours =
          held.find({theirs.info().expert().name(), theirs.info().expert().version()});
      if (ours == held.end()) continue;
      const v1::HeldExpert& mine = *ours->second;
      if (theirs.base_fingerprint() != mine.base_fingerprint() ||
          theirs.info().first_layer() != mine.info().first_layer() ||
          theirs.info().last_layer() != mine.info().last_layer()) {
        return refuse(absl::StrCat(
            "expert ", ours->first.ToString(), ": worker ", absl::CEscape(id),
            " holds it for base ", absl::CEscape(theirs.base_fingerprint().substr(0, kShownDigest)),
            ", layers ", theirs.info().first_layer(), " to ", theirs.info().last_layer(),
            ", this one for base ", absl::CEscape(mine.base_fingerprint().substr(0, kShownDigest)),
            ", layers ", mine.info().first_layer(), " to ", mine.info().last_layer()));
      }
      if (MayBeSameWeights(theirs.weights_digest(), mine.weights_digest())) continue;
      return refuse(absl::StrCat(
          "expert ", ours->first.ToString(), ": worker ", absl::CEscape(id), " holds weights ",
          absl::CEscape(theirs.weights_digest().substr(0, kShownDigest)), ", this one ",
          absl::CEscape(mine.weights_digest().substr(0, kShownDigest)),
          " (SHA-256): other weights need another version"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<WorkerSession> WorkerRegistry::Register(const v1::WorkerReport& report) {
  CCOE_RETURN_IF_ERROR(
      Annotate(CheckReport(report),
               absl::StrCat("worker \"",
                            absl::CEscape(report.worker_id().substr(0, kMaxWorkerIdBytes)), "\"")));
  CCOE_RETURN_IF_ERROR_IN(CheckWeights(report),
                          absl::StrCat("worker \"", absl::CEscape(report.worker_id()), "\""));
  const auto earlier = workers_.find(report.worker_id());
  if (earlier != workers_.end() && !IsSilent(earlier->second) &&
      earlier->second.report.address() != report.address()) {
    return absl::UnavailableError(
        absl::StrCat("worker \"", absl::CEscape(report.worker_id()),
                     "\": the id is taken by the worker at ", earlier->second.report.address(),
                     ", this one is at ", report.address(), ": give each an id of its own (--id)"));
  }
  if (earlier == workers_.end() && static_cast<int>(workers_.size()) >= options_.max_workers) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the router knows ", workers_.size(), " workers and takes no more"));
  }
  if (earlier != workers_.end()) ids_.erase(earlier->second.session);
  const WorkerSession session = next_session_++;
  Worker& worker = workers_[report.worker_id()];
  worker = Worker{report, session, clock_.Now(), 0};
  ids_[session] = report.worker_id();
  if (report.role() == v1::WORKER_ROLE_BACKBONE && model_fingerprint_.empty()) {
    model_fingerprint_ = report.model_fingerprint();
  }
  return session;
}

absl::Status WorkerRegistry::Report(WorkerSession session, const v1::WorkerReport& report) {
  const auto id = ids_.find(session);
  if (id == ids_.end()) {
    return absl::AbortedError("the worker's lease ran out, or it registered again elsewhere");
  }
  Worker& worker = workers_[id->second];
  if (report.worker_id() != id->second || report.role() != worker.report.role() ||
      report.model_fingerprint() != worker.report.model_fingerprint()) {
    return absl::InvalidArgumentError(
        absl::StrCat("worker \"", absl::CEscape(id->second),
                     "\": id, role and model cannot change on a stream"));
  }
  CCOE_RETURN_IF_ERROR(
      Annotate(CheckReport(report), absl::StrCat("worker \"", absl::CEscape(id->second), "\"")));
  if (!SameWeights(report, worker.report)) {
    CCOE_RETURN_IF_ERROR(
        Annotate(CheckWeights(report), absl::StrCat("worker \"", absl::CEscape(id->second), "\"")));
  }
  worker.report = report;
  worker.last_report = clock_.Now();
  worker.sent_since_report = 0;
  return absl::OkStatus();
}

void WorkerRegistry::Remove(WorkerSession session) {
  const auto id = ids_.find(session);
  if (id == ids_.end()) return;
  workers_.erase(id->second);
  ids_.erase(id);
  ForgetModelWithoutBackbone();
}

std::vector<WorkerSession> WorkerRegistry::Expire() {
  std::vector<WorkerSession> expired;
  const absl::Time oldest = clock_.Now() - options_.lease;
  for (const auto& [id, worker] : workers_) {
    if (worker.last_report < oldest) expired.push_back(worker.session);
  }
  for (WorkerSession session : expired) Remove(session);
  return expired;
}

void WorkerRegistry::CountSent(const std::string& worker_id) {
  const auto found = workers_.find(worker_id);
  if (found != workers_.end()) ++found->second.sent_since_report;
}

void WorkerRegistry::ForgetModelWithoutBackbone() {
  for (const auto& [id, worker] : workers_) {
    if (worker.report.role() == v1::WORKER_ROLE_BACKBONE) return;
  }
  model_fingerprint_ = options_.model_fingerprint;
}

}  // namespace ccoe::services
