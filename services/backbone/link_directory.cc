#include "services/backbone/link_directory.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/backbone/ffn_table.h"
#include "services/backbone/wire.h"
#include "services/common/ffn_shards.h"

namespace ccoe::services {
namespace {

// Workers that have left and are remembered for messages.
constexpr size_t kMaxLeft = 256;

std::string Range(int32_t first, int32_t last) { return absl::StrCat("[", first, ", ", last, ")"); }

}  // namespace

LinkDirectory::LinkDirectory(LinkDirectoryOptions options) : options_(std::move(options)) {
  CCOE_CHECK(options_.open != nullptr && options_.base_fingerprint != nullptr);
  {
    absl::MutexLock lock(&mutex_);
    RebuildTable();
  }
  thread_ = std::thread([this] { Run(); });
}

LinkDirectory::~LinkDirectory() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void LinkDirectory::Update(const v1::Directive& directive) {
  absl::MutexLock lock(&mutex_);
  UpdateExperts(directive);
  UpdateFfnPlaces(directive);
  UpdatePeers();
  RebuildTable();
  changed_ = true;
}

void LinkDirectory::UpdateExperts(const v1::Directive& directive) {
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

void LinkDirectory::UpdateFfnPlaces(const v1::Directive& directive) {
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

void LinkDirectory::UpdatePeers() {
  std::set<std::string> addresses;
  for (const auto& [expert, place] : places_) {
    addresses.insert(place.table.addresses().begin(), place.table.addresses().end());
  }
  for (const auto& [worker, place] : ffn_places_) addresses.insert(place.address);
  for (auto it = peers_.begin(); it != peers_.end();) {
    if (addresses.count(it->first) != 0) {
      ++it;
      continue;
    }
    Retire(it->second);
    it = peers_.erase(it);
  }
  for (const std::string& address : addresses) {
    Peer& peer = peers_[address];
    if (peer.queries == nullptr) peer.queries = std::make_shared<std::atomic<int64_t>>(0);
  }
}

void LinkDirectory::RebuildTable() {
  std::vector<FfnHolder> holders;
  std::vector<GoneFfnHolder> gone;
  for (const auto& [worker, shard] : ffn_left_) gone.push_back({worker, "it has left", shard});
  for (const auto& [worker, place] : ffn_places_) {
    const auto found = peers_.find(place.address);
    if (found == peers_.end()) continue;
    const Peer& peer = found->second;
    const absl::Status health = peer.link == nullptr ? peer.error : peer.link->Health();
    if (health.ok()) {
      holders.push_back({worker, peer.link, place.shard});
    } else {
      gone.push_back({worker, std::string(health.message()), place.shard});
    }
  }
  const int64_t epoch = table_ == nullptr ? 1 : table_->epoch + 1;
  table_ = BuildFfnTable(epoch, options_.ffn_experts, options_.ffn_here, holders, gone);
}

std::shared_ptr<const engine::FfnTable> LinkDirectory::Table() {
  absl::MutexLock lock(&mutex_);
  for (const engine::FfnPeer& peer : table_->peers) {
    if (peer.link->Health().ok()) continue;
    RebuildTable();
    changed_ = true;  // the broken link is opened again
    break;
  }
  return table_;
}

absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> LinkDirectory::Find(
    const ExpertRef& expert) {
  absl::MutexLock lock(&mutex_);
  CCOE_ASSIGN_OR_RETURN(const Place* place, FindPlace(expert));
  if (!place->fits.ok()) return Annotate(place->fits, expert.ToString());
  CCOE_ASSIGN_OR_RETURN(Peer * peer, ChoosePeer(*place));
  const v1::ExpertInfo& info = place->table.info();
  auto* binding = new engine::ExpertBinding{ExpertFromProto(info.expert()),
                                            {info.first_layer(), info.last_layer()},
                                            peer->link,
                                            place->own_head};
  peer->queries->fetch_add(1);
  return std::shared_ptr<const engine::ExpertBinding>(
      binding, [queries = peer->queries](const engine::ExpertBinding* ended) {
        delete ended;
        queries->fetch_sub(1);
      });
}

absl::StatusOr<const LinkDirectory::Place*> LinkDirectory::FindPlace(
    const ExpertRef& expert) const {
  const Place* newest = nullptr;
  for (const auto& [known, place] : places_) {
    if (known == expert) return &place;
    if (known.name == expert.name && expert.version == 0) newest = &place;  // versions rise
  }
  if (newest != nullptr) return newest;
  std::vector<std::string> names;
  for (const auto& [known, place] : places_) names.push_back(known.ToString());
  return absl::NotFoundError(absl::StrCat("no expert \"", expert.ToString(), "\"; there are: ",
                                          names.empty() ? "none" : absl::StrJoin(names, ", ")));
}

absl::StatusOr<LinkDirectory::Peer*> LinkDirectory::ChoosePeer(const Place& place) {
  Peer* best = nullptr;
  std::vector<std::string> errors;
  for (const std::string& address : place.table.addresses()) {
    Peer& peer = peers_.at(address);
    const absl::Status health = peer.link == nullptr ? peer.error : peer.link->Health();
    if (!health.ok()) {
      errors.push_back(absl::StrCat(address, ": ", health.message()));
      continue;
    }
    if (best == nullptr || peer.queries->load() < best->queries->load()) best = &peer;
  }
  if (best != nullptr) return best;
  return absl::UnavailableError(
      absl::StrCat("expert \"", ExpertFromProto(place.table.info().expert()).ToString(),
                   "\": no link to its workers works: ",
                   errors.empty() ? "no worker holds it" : absl::StrJoin(errors, "; ")));
}

void LinkDirectory::Run() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      auto wake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || changed_; };
      mutex_.AwaitWithTimeout(absl::Condition(&wake), options_.retry);
      if (stopping_) break;
      changed_ = false;
    }
    JoinOpeners(/*all=*/false);
    // First: the checks may read the whole base.
    OpenLinks();
    CheckPlaces();
    CloseRetired();
  }
  JoinOpeners(/*all=*/true);
}

absl::Status LinkDirectory::CheckFits(const v1::ExpertPlace& place) const {
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

void LinkDirectory::CheckPlaces() {
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

std::vector<std::string> LinkDirectory::AddressesToOpen() {
  const absl::Time now = absl::Now();
  std::vector<std::string> addresses;
  const int room = options_.max_opening - static_cast<int>(openers_.size());
  bool broke = false;
  absl::MutexLock lock(&mutex_);
  for (auto& [address, peer] : peers_) {
    if (peer.link != nullptr && peer.link->Health().ok()) continue;
    if (peer.link != nullptr) {
      peer.error = peer.link->Health();
      LOG(WARNING) << "link to " << address << " broke: " << peer.error.message();
      Retire(peer);
      broke = true;
    }
    const bool wanted = peer.next_attempt <= now && openers_.count(address) == 0;
    if (wanted && static_cast<int>(addresses.size()) < room) addresses.push_back(address);
  }
  if (broke) RebuildTable();
  return addresses;
}

void LinkDirectory::OpenLinks() {
  for (const std::string& address : AddressesToOpen()) {
    openers_[address] = std::thread([this, address] { OpenLink(address); });
  }
}

void LinkDirectory::OpenLink(const std::string& address) {
  absl::StatusOr<std::unique_ptr<exchange::ActivationLink>> link = options_.open(address);
  absl::MutexLock lock(&mutex_);
  opened_.push_back(address);
  const auto it = peers_.find(address);
  if (it == peers_.end()) {  // the worker left meanwhile
    if (link.ok()) retired_.push_back(*std::move(link));
    return;
  }
  it->second.next_attempt = absl::Now() + options_.retry;
  if (link.ok()) {
    it->second.link = *std::move(link);
    RebuildTable();
  } else {
    it->second.error = link.status();
  }
}

void LinkDirectory::JoinOpeners(bool all) {
  std::vector<std::string> addresses;
  {
    absl::MutexLock lock(&mutex_);
    addresses = std::exchange(opened_, {});
  }
  if (all) {
    addresses.clear();
    for (const auto& [address, opener] : openers_) addresses.push_back(address);
  }
  for (const std::string& address : addresses) {
    const auto it = openers_.find(address);
    it->second.join();
    openers_.erase(it);
  }
}

void LinkDirectory::Retire(Peer& peer) {
  if (peer.link != nullptr) retired_.push_back(std::exchange(peer.link, nullptr));
}

void LinkDirectory::CloseRetired() {
  std::vector<std::shared_ptr<exchange::ActivationLink>> unused;
  absl::MutexLock lock(&mutex_);
  for (size_t i = 0; i < retired_.size();) {
    // No new user can come: the directory's is the last way to a retired link.
    if (retired_[i].use_count() > 1) {
      ++i;
      continue;
    }
    unused.push_back(std::move(retired_[i]));
    retired_.erase(retired_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

}  // namespace ccoe::services
