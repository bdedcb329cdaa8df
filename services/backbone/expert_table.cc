// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/expert_table.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/backbone/ffn_table.h"
#include "services/backbone/proto_conversions.h"
#include "services/common/model_report.h"

namespace ccoe::services {
namespace {

// Workers that have left and are remembered for messages.
constexpr size_t kMaxLeft = 256;
// Before any number of queries: workers of another numerics class come last.
constexpr int64_t kOtherNumerics = int64_t{1} << 40;

std::string Range(int32_t first, int32_t last) { return absl::StrCat("[", first, ", ", last, ")"); }

}  // namespace

ExpertTable::ExpertTable(ExpertTableOptions options) : options_(std::move(options)) {
  CCOE_CHECK(options_.base_fingerprint != nullptr);
  LinkPoolOptions links = options_.links;
  links.on_change = [this] {
    absl::MutexLock lock(&mutex_);
    if (!stopping_) RebuildTable();  // the pool's threads outlive the pointer to it
  };
  absl::MutexLock lock(&mutex_);
  links_ = std::make_unique<LinkPool>(std::move(links));
  RebuildTable();
  thread_ = std::thread([this] { Run(); });
}

ExpertTable::~ExpertTable() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
  links_.reset();
}

void ExpertTable::Update(const v1::Directive& directive) {
  absl::MutexLock lock(&mutex_);
  UpdateExperts(directive);
  UpdateFfnPlaces(directive);
  UpdateAddresses();
  RebuildTable();
  unchecked_ = true;
}

void ExpertTable::UpdateExperts(const v1::Directive& directive) {
  std::map<ExpertRef, Place> places;
  for (const v1::ExpertPlace& table : directive.experts()) {
    Place place;
    place.table = table;
    place.fits = absl::UnavailableError("not checked yet");
    const ExpertRef expert = ExpertFromProto(table.info().expert());
    auto known = places_.find(expert);
    if (known != places_.end() &&
        known->second.table.base_fingerprint() == table.base_fingerprint()) {
      place.fits = known->second.fits;
    }
    if (auto head = options_.own_heads.find(expert); head != options_.own_heads.end()) {
      place.own_head = head->second;
    }
    places[expert] = std::move(place);
  }
  places_ = std::move(places);
}

void ExpertTable::UpdateFfnPlaces(const v1::Directive& directive) {
  for (const auto& [worker, place] : ffn_places_) {
    if (ffn_left_.size() < kMaxLeft || ffn_left_.count(worker) != 0)
      ffn_left_[worker] = place.shard;
  }
  ffn_places_.clear();
  for (const v1::FfnPlace& place : directive.ffn_places()) {
    absl::StatusOr<model::FfnShard> shard = FfnShardFromProto(place.shard());
    if (!shard.ok()) {
      LOG(ERROR) << "worker " << place.worker_id() << " refused: " << shard.status().message();
      continue;
    }
    ffn_left_.erase(place.worker_id());
    ffn_places_[place.worker_id()] = {place.address(), *std::move(shard)};
  }
}

void ExpertTable::UpdateAddresses() {
  std::set<std::string> addresses;
  for (const auto& [expert, place] : places_) {
    for (const v1::WorkerPlace& worker : place.table.workers()) addresses.insert(worker.address());
  }
  for (const auto& [worker, place] : ffn_places_) addresses.insert(place.address);
  for (const std::string& address : addresses) {
    auto& queries = queries_[address];
    if (queries == nullptr) queries = std::make_shared<std::atomic<int64_t>>(0);
  }
  for (auto it = queries_.begin(); it != queries_.end();) {
    it = addresses.count(it->first) == 0 ? queries_.erase(it) : std::next(it);
  }
  links_->SetAddresses(addresses);
}

void ExpertTable::RebuildTable() {
  std::vector<FfnHolder> holders;
  std::vector<GoneFfnHolder> gone;
  for (const auto& [worker, shard] : ffn_left_) gone.push_back({worker, "it has left", shard});
  for (const auto& [worker, place] : ffn_places_) {
    auto link = links_->Get(place.address);
    if (link.ok()) {
      std::string numerics = (*link)->peer().numerics;
      holders.push_back({worker, *std::move(link), place.shard, std::move(numerics)});
    } else {
      gone.push_back({worker, std::string(link.status().message()), place.shard});
    }
  }
  table_ = BuildFfnTable(options_.ffn_experts, options_.ffn_here, holders, gone, options_.numerics);
  ++epoch_;
}

std::shared_ptr<const engine::FfnTable> ExpertTable::Table() {
  absl::MutexLock lock(&mutex_);
  const bool broken = std::any_of(table_->peers.begin(), table_->peers.end(),
                                  [](const auto& peer) { return !peer.link->healthy(); });
  if (broken) RebuildTable();
  return table_;
}

absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> ExpertTable::Bind(
    const Place& place, int64_t kv_tokens, absl::FunctionRef<int64_t(const Candidate&)> rank) {
  Candidate best;
  std::vector<std::string> errors;
  for (const v1::WorkerPlace& worker : place.table.workers()) {
    auto link = links_->Get(worker.address());
    if (!link.ok()) {
      errors.push_back(absl::StrCat(worker.address(), ": ", link.status().message()));
      continue;
    }
    Candidate candidate{&worker, *std::move(link), queries_[worker.address()]->load()};
    candidate.rank = rank(candidate);
    if (candidate.rank < 0) {
      errors.push_back(absl::StrCat(worker.address(), ": it failed this query before"));
    } else if (kv_tokens > 0 && worker.kv_tokens() > 0 && worker.kv_tokens() < kv_tokens) {
      errors.push_back(absl::StrCat(worker.address(), ": its KV cache holds ", worker.kv_tokens(),
                                    " tokens; the query was taken in for ", kv_tokens));
    } else if (best.worker == nullptr || candidate.rank < best.rank) {
      best = std::move(candidate);
    }
  }
  if (best.worker == nullptr) {
    const v1::ExpertInfo& info = place.table.info();
    return absl::UnavailableError(
        absl::StrCat("expert \"", ExpertFromProto(info.expert()).ToString(),
                     "\": no link to its workers works: ",
                     errors.empty() ? "no worker holds it" : absl::StrJoin(errors, "; ")));
  }
  auto* binding = new engine::ExpertBinding(WithoutWorker(place));
  binding->link = std::move(best.link);
  binding->worker_id = best.worker->worker_id();
  binding->numerics = best.worker->numerics();
  if (kv_tokens > 0) binding->kv_tokens = kv_tokens;
  const std::shared_ptr<std::atomic<int64_t>> queries = queries_[best.worker->address()];
  queries->fetch_add(1);
  return std::shared_ptr<const engine::ExpertBinding>(
      binding, [queries](const engine::ExpertBinding* ended) {
        delete ended;
        queries->fetch_sub(1);
      });
}

absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> ExpertTable::Find(
    const ExpertRef& expert) {
  absl::MutexLock lock(&mutex_);
  CCOE_ASSIGN_OR_RETURN(const Place* place, FindPlace(expert));
  if (place->fits.ok()) {
    auto bound = Bind(*place, 0, [](const Candidate& candidate) { return candidate.rank; });
    if (bound.ok()) return bound;
  } else if (!absl::IsUnavailable(place->fits)) {
    return Annotate(place->fits, expert.ToString());
  }
  return std::make_shared<const engine::ExpertBinding>(WithoutWorker(*place));
}

absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> ExpertTable::FindReplica(
    const engine::ExpertBinding& bound, const engine::LinkList& avoid) {
  absl::MutexLock lock(&mutex_);
  const auto found = places_.find(bound.expert);
  if (found == places_.end()) {
    return absl::UnavailableError(
        absl::StrCat("no worker holds expert \"", bound.expert.ToString(), "\" now"));
  }
  const Place& place = found->second;
  if (!place.fits.ok()) return Annotate(place.fits, bound.expert.ToString());
  if (!MayBeSameWeights(place.table.weights_digest(), bound.weights_digest)) {
    return absl::UnavailableError(absl::StrCat("expert \"", bound.expert.ToString(),
                                               "\" has other weights now than when the query "
                                               "began"));
  }
  return Bind(place, bound.kv_tokens, [&](const Candidate& candidate) -> int64_t {
    for (const std::weak_ptr<exchange::ActivationLink>& failed : avoid) {
      if (failed.lock() == candidate.link) return -1;
    }
    const bool same = bound.link == nullptr || candidate.worker->numerics() == bound.numerics;
    // Where it is the query counts itself.
    const int64_t itself = candidate.link == bound.link ? 1 : 0;
    return 2 * (candidate.rank - itself) + (1 - itself) + (same ? 0 : kOtherNumerics);
  });
}

engine::ExpertBinding ExpertTable::WithoutWorker(const Place& place) {
  const v1::ExpertInfo& info = place.table.info();
  engine::ExpertBinding binding;
  binding.expert = ExpertFromProto(info.expert());
  binding.layers = {info.first_layer(), info.last_layer()};
  binding.own_head = place.own_head;
  binding.weights_digest = place.table.weights_digest();
  binding.kv_tokens = place.table.kv_tokens();
  return binding;
}

absl::StatusOr<const ExpertTable::Place*> ExpertTable::FindPlace(const ExpertRef& expert) const {
  const Place* newest = nullptr;
  for (const auto& [known, place] : places_) {
    if (known == expert) return &place;
    if (known.name != expert.name || expert.version != 0) continue;
    // Versions rise. One that nobody holds any more comes last.
    const bool held = place.table.workers_size() > 0;
    if (newest == nullptr || held || newest->table.workers_size() == 0) newest = &place;
  }
  if (newest != nullptr) return newest;
  std::vector<std::string> names;
  for (const auto& [known, place] : places_) names.push_back(known.ToString());
  return absl::NotFoundError(absl::StrCat("no expert \"", expert.ToString(), "\"; there are: ",
                                          names.empty() ? "none" : absl::StrJoin(names, ", ")));
}

void ExpertTable::Run() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      auto wake = [this]()
                      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || unchecked_; };
      mutex_.AwaitWithTimeout(absl::Condition(&wake), options_.links.retry);
      if (stopping_) return;
      unchecked_ = false;
    }
    CheckPlaces();
  }
}

absl::Status ExpertTable::CheckFits(const v1::ExpertPlace& place) const {
  const v1::ExpertInfo& info = place.info();
  const ExpertRef expert = ExpertFromProto(info.expert());
  if (info.first_layer() < 0 || info.last_layer() <= info.first_layer() ||
      info.last_layer() > options_.layer_count) {
    return absl::FailedPreconditionError(
        absl::StrCat("layers: expected a range within ", Range(0, options_.layer_count), ", found ",
                     Range(info.first_layer(), info.last_layer())));
  }
  if (info.owns_head() && options_.own_heads.count(expert) == 0) {
    return absl::FailedPreconditionError(
        "it brings its own norm or head, which this backbone worker needs its bundle for: "
        "expected it among those given with --bundle, found none");
  }
  CCOE_ASSIGN_OR_RETURN(const std::string own, options_.base_fingerprint(info.first_layer()));
  if (own != place.base_fingerprint()) {
    return absl::FailedPreconditionError(
        absl::StrCat("it was made for another base: expected fingerprint ", own, " below layer ",
                     info.first_layer(), ", found ", place.base_fingerprint()));
  }
  return absl::OkStatus();
}

void ExpertTable::CheckPlaces() {
  std::vector<v1::ExpertPlace> unchecked;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [expert, place] : places_) {
      if (absl::IsUnavailable(place.fits)) unchecked.push_back(place.table);
    }
  }
  for (const v1::ExpertPlace& table : unchecked) {
    const absl::Status fits = CheckFits(table);
    const ExpertRef expert = ExpertFromProto(table.info().expert());
    if (!fits.ok()) LOG(ERROR) << "expert " << expert.ToString() << " refused: " << fits.message();
    absl::MutexLock lock(&mutex_);
    auto it = places_.find(expert);
    if (it != places_.end() && it->second.table.base_fingerprint() == table.base_fingerprint()) {
      it->second.fits = fits;
    }
  }
}

}  // namespace ccoe::services
