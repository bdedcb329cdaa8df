// SPDX-License-Identifier: Apache-2.0
#include "services/router/expert_places.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "google/protobuf/util/message_differencer.h"
#include "services/common/model_report.h"

namespace ccoe::services {
namespace {

using Places = std::map<ExpertRef, v1::ExpertPlace>;

constexpr size_t kMaxGone = 4096;  // experts

bool IsPlaced(const Worker& worker, const std::string& model_fingerprint) {
  const std::string& model = worker.report.model_fingerprint();
  const bool same_model = model.empty() || model_fingerprint.empty() || model == model_fingerprint;
  return worker.report.role() == v1::WORKER_ROLE_EXPERT && worker.ready() && same_model;
}

void Add(const Worker& worker, const v1::HeldExpert& held, Places* places) {
  const ExpertRef ref{held.info().expert().name(), held.info().expert().version()};
  const auto [found, fresh] = places->try_emplace(ref);
  v1::ExpertPlace& place = found->second;
  if (fresh) {
    *place.mutable_info() = held.info();
    place.set_base_fingerprint(held.base_fingerprint());
    place.set_weights_digest(held.weights_digest());
    place.set_kv_tokens(held.kv_tokens());
  } else if (!MayBeSameWeights(place.weights_digest(), held.weights_digest()) ||
             place.base_fingerprint() != held.base_fingerprint() ||
             place.info().first_layer() != held.info().first_layer() ||
             place.info().last_layer() != held.info().last_layer()) {
    LOG_EVERY_N(WARNING, 100)
        << "expert " << ref.ToString() << " on worker " << worker.report.worker_id()
        << " has other weights or layers, or another base than on earlier workers: left out";
    return;
  }
  if (place.weights_digest().empty()) place.set_weights_digest(held.weights_digest());
  if (held.kv_tokens() > 0) {
    place.set_kv_tokens(place.kv_tokens() > 0 ? std::min(place.kv_tokens(), held.kv_tokens())
                                              : held.kv_tokens());
  }
  v1::WorkerPlace& at = *place.add_workers();
  at.set_worker_id(worker.report.worker_id());
  at.set_address(worker.report.address());
  at.set_numerics(worker.report.numerics());
  at.set_kv_tokens(held.kv_tokens());
  place.mutable_info()->set_replicas(place.workers_size());
}

// The named version, or for version 0 the newest of the name; nullopt: none.
template <typename Value>
std::optional<ExpertRef> Find(const std::map<ExpertRef, Value>& experts, const ExpertRef& wanted) {
  if (wanted.version > 0) {
    return experts.contains(wanted) ? std::optional(wanted) : std::nullopt;
  }
  // The last entry of the name is its newest version.
  auto after = experts.upper_bound(ExpertRef{wanted.name, INT64_MAX});
  if (after == experts.begin() || (--after)->first.name != wanted.name) return std::nullopt;
  return after->first;
}

template <typename Key, typename Message>
bool Same(const std::map<Key, Message>& a, const std::map<Key, Message>& b) {
  if (a.size() != b.size()) return false;
  for (auto i = a.begin(), j = b.begin(); i != a.end(); ++i, ++j) {
    if (!(i->first == j->first) ||
        !google::protobuf::util::MessageDifferencer::Equals(i->second, j->second)) {
      return false;
    }
  }
  return true;
}

}  // namespace

ExpertPlaces::ExpertPlaces(std::optional<placement::Plan> plan) : plan_(std::move(plan)) {
  if (!plan_.has_value()) return;
  for (const placement::WorkerPlan& worker : plan_->workers) {
    assignments_[worker.worker_id] = FfnShardToProto(worker.shard);
  }
}

bool ExpertPlaces::Update(const std::map<std::string, Worker>& workers,
                          const std::string& model_fingerprint, absl::Time now) {
  if (!model_fingerprint.empty()) {
    const std::string before = std::exchange(model_fingerprint_, model_fingerprint);
    if (!before.empty() && before != model_fingerprint) gone_.clear();  // another model's
  }
  Places places;
  std::map<std::string, v1::FfnPlace> ffn_places;
  for (const auto& [id, worker] : workers) {
    if (!IsPlaced(worker, model_fingerprint)) continue;
    if (worker.report.ffn_shard().layers_size() > 0) {
      v1::FfnPlace& place = ffn_places[id];
      place.set_worker_id(id);
      place.set_address(worker.report.address());
      *place.mutable_shard() = worker.report.ffn_shard();
    }
    for (const v1::HeldExpert& held : worker.report.experts()) Add(worker, held, &places);
  }
  const size_t forgotten = std::erase_if(gone_, [&](const auto& entry) {
    return places.contains(entry.first) || now - entry.second.since >= kRemembered;
  });
  if (forgotten == 0 && Same(places, places_) && Same(ffn_places, ffn_places_)) return false;
  for (const auto& [ref, place] : places_) {
    if (places.contains(ref) || gone_.size() >= kMaxGone) continue;
    Gone& gone = gone_[ref];
    gone = {place, now};
    gone.place.clear_workers();
    gone.place.mutable_info()->set_replicas(0);
  }
  places_ = std::move(places);
  ffn_places_ = std::move(ffn_places);
  ++epoch_;
  return true;
}

absl::StatusOr<ExpertRef> ExpertPlaces::Resolve(const ExpertRef& wanted) const {
  if (const auto found = Find(places_, wanted); found.has_value()) return *found;
  std::vector<std::string> held;
  for (const auto& [ref, place] : places_) held.push_back(ref.ToString());
  return absl::NotFoundError(
      absl::StrCat("expert \"", wanted.ToString(), "\": no ready worker holds it; there ",
                   held.empty() ? "are none" : absl::StrCat("are ", absl::StrJoin(held, ", "))));
}

absl::StatusOr<ExpertRef> ExpertPlaces::ResolveKnown(const ExpertRef& wanted) const {
  auto held = Resolve(wanted);
  if (held.ok()) return held;
  if (const auto gone = Find(gone_, wanted); gone.has_value()) return *gone;
  return held;
}

std::vector<v1::ExpertInfo> ExpertPlaces::Experts() const {
  std::vector<v1::ExpertInfo> experts;
  for (const auto& [ref, place] : places_) experts.push_back(place.info());
  return experts;
}

v1::Directive ExpertPlaces::ToDirective(absl::Duration lease, const std::string& worker_id,
                                        v1::WorkerRole role) const {
  v1::Directive directive;
  directive.set_epoch(epoch_);
  directive.set_lease_seconds(absl::ToDoubleSeconds(lease));
  directive.set_placement_epoch(plan_epoch());
  for (const auto& [ref, place] : places_) *directive.add_experts() = place;
  for (const auto& [ref, gone] : gone_) *directive.add_experts() = gone.place;
  if (role == v1::WORKER_ROLE_BACKBONE) {
    for (const auto& [id, place] : ffn_places_) *directive.add_ffn_places() = place;
  } else if (const auto found = assignments_.find(worker_id); found != assignments_.end()) {
    *directive.mutable_ffn_assignment() = found->second;
  }
  return directive;
}

}  // namespace ccoe::services
