// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/remote_moe.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/moe_control.h"
#include "runtime/engine/moe_statistics.h"

namespace ccoe::engine {
namespace {

// Of the contributions in one answer: well below what a message may hold, and small enough that a
// worker can begin while the next part is sent.
constexpr int64_t kMaxPartBytes = int64_t{16} << 20;

// For how long entries whose workers are full hold up the others of their micro batch.
constexpr absl::Duration kHoldUp = absl::Milliseconds(50);

std::vector<int32_t> AllPairs(const model::RoutedRows& routed) {
  std::vector<int32_t> pairs(static_cast<size_t>(routed.pairs()));
  std::iota(pairs.begin(), pairs.end(), 0);
  return pairs;
}

std::string ExpertNames(const model::RoutedRows& routed, absl::Span<const int32_t> pairs) {
  std::set<int32_t> experts;
  for (const int32_t pair : pairs) experts.insert(routed.experts[static_cast<size_t>(pair)]);
  return absl::StrCat("FFN expert", experts.size() == 1 ? " " : "s ", absl::StrJoin(experts, ", "),
                      " of layer ", routed.layer);
}

// "; held by expert worker expert-2 (the link is closed)", of the first of `pairs`.
std::string LastHolders(const model::RoutedRows& routed, absl::Span<const int32_t> pairs,
                        const FfnTable& table) {
  const auto gone =
      table.gone.find({routed.layer, routed.experts[static_cast<size_t>(pairs.front())]});
  return gone == table.gone.end() ? "" : absl::StrCat("; held by ", gone->second);
}

// Where the pairs of each entry's rows end.
std::vector<int32_t> PairEnds(const MicroBatch& batch, const model::RoutedRows& routed) {
  std::vector<int32_t> ends;
  int64_t row = 0;
  for (const StepEntry& entry : batch.entries) {
    row += entry.row_count;
    ends.push_back(routed.offsets[static_cast<size_t>(row)]);
  }
  return ends;
}

// Indices of the entries that have some of `pairs` (rising).
std::vector<size_t> EntriesOf(const MicroBatch& batch, const model::RoutedRows& routed,
                              absl::Span<const int32_t> pairs) {
  const std::vector<int32_t> ends = PairEnds(batch, routed);
  std::vector<size_t> entries;
  size_t i = 0;
  for (const int32_t pair : pairs) {
    while (pair >= ends[i]) ++i;
    if (entries.empty() || entries.back() != i) entries.push_back(i);
  }
  return entries;
}

bool AnyWantsRouting(const MicroBatch& batch) {
  return std::any_of(batch.entries.begin(), batch.entries.end(), [](const StepEntry& entry) {
    return entry.sequence->query().routing && entry.alive();
  });
}

std::shared_ptr<const FfnTable> TableOfAllHere(const model::ModelSpec& spec) {
  FfnTable::Holders holders;
  for (const model::LayerSpec& layer : spec.layers) {
    const int64_t experts = layer.ffn.is_moe() ? layer.ffn.moe.experts : 0;
    holders.emplace_back(experts, std::vector<int32_t>{FfnTable::kHere});
  }
  return std::make_shared<FfnTable>(std::vector<FfnPeer>(), holders);
}

bool AllHereIn(const FfnTable& table, int32_t layer) {
  for (int32_t expert = 0; expert < table.experts(layer); ++expert) {
    const absl::Span<const int32_t> holders = table.HoldersOf(layer, expert);
    if (std::find(holders.begin(), holders.end(), FfnTable::kHere) == holders.end()) return false;
  }
  return true;
}

bool AnyBroken(const FfnTable& table) {
  return std::any_of(table.peers.begin(), table.peers.end(),
                     [](const FfnPeer& peer) { return !peer.link->healthy(); });
}

}  // namespace

RemoteMoe::RemoteMoe(const EngineOptions& options, const Parts& parts)
    : options_(options),
      clock_(ClockOr(options.clock)),
      parts_(parts),
      hidden_size_(parts.runner->hidden_size()),
      max_part_pairs_(std::max<int64_t>(
          1, kMaxPartBytes / (hidden_size_ * static_cast<int64_t>(sizeof(float))))),
      all_here_(parts.directory == nullptr ? TableOfAllHere(parts.runner->model().spec) : nullptr) {
}

std::shared_ptr<const FfnTable> RemoteMoe::Table() {
  if (parts_.directory == nullptr) return all_here_;
  const uint64_t epoch = parts_.directory->epoch();
  std::shared_ptr<const FfnTable> table = table_.lock();
  if (table != nullptr && epoch == table_epoch_ && !AnyBroken(*table)) return table;
  table = parts_.directory->Table();
  table_ = table;
  table_epoch_ = epoch;
  return table;
}

const std::vector<bool>& RemoteMoe::AllHere() {
  const std::shared_ptr<const FfnTable> table = Table();
  if (table == judged_.lock()) return judged_here_;
  const BackboneModel& model = parts_.runner->model();
  const int32_t layers = model.spec.layer_count();
  judged_here_.assign(static_cast<size_t>(layers), false);
  for (int32_t layer = 0; layer < layers; ++layer) {
    const auto& ffn = model.spec.layers[static_cast<size_t>(layer)].ffn;
    judged_here_[static_cast<size_t>(layer)] =
        ffn.is_moe() && table->experts(layer) == ffn.moe.experts && AllHereIn(*table, layer) &&
        model.decoder->HoldsAll(layer);
  }
  judged_ = table;
  return judged_here_;
}

int32_t RemoteMoe::NextStop(const MicroBatch& batch, int32_t last) {
  const model::ModelSpec& spec = parts_.runner->model().spec;
  const bool routing = AnyWantsRouting(batch);
  for (int32_t layer = batch.cursor; layer < last; ++layer) {
    if (!spec.layers[static_cast<size_t>(layer)].ffn.is_moe()) continue;
    if (routing || !AllHere()[static_cast<size_t>(layer)] || Steering(batch, layer).has_value()) {
      return layer;
    }
  }
  return last;
}

absl::Status RemoteMoe::Run(MicroBatch& batch) {
  const int32_t layer = batch.cursor;
  CCOE_RETURN_IF_ERROR(parts_.runner->Attend(layer, BatchOf(batch)));
  const std::shared_ptr<const FfnTable> table = Table();
  CCOE_ASSIGN_OR_RETURN(model::RoutedRows routed, Route(batch));
  FfnDispatchPlan plan = Plan(routed, AllPairs(routed), *table, nullptr);
  if (!plan.lost.empty()) {
    Withdraw(batch, routed, std::move(plan.lost), absl::OkStatus(), absl::ZeroDuration());
    if (batch.Living().empty()) return DropDead(batch);
  }
  const bool all_here = std::all_of(plan.parts.begin(), plan.parts.end(), [](const FfnPart& part) {
    return part.peer == FfnTable::kHere;
  });
  if (!all_here) return Suspend(batch, std::move(routed), std::move(plan), *table);
  CCOE_RETURN_IF_ERROR(RunOwn(routed, plan.parts));
  CCOE_RETURN_IF_ERROR(Finish(layer, routed, plan.parts, {}));
  return DropDead(batch);
}

std::optional<model::GateSteering> RemoteMoe::Steering(const MicroBatch& batch,
                                                       int32_t layer) const {
  const bool asked = std::any_of(batch.entries.begin(), batch.entries.end(), [](const auto& entry) {
    return entry.sequence->query().moe != nullptr;
  });
  if (!asked) return std::nullopt;
  std::vector<RowsOfQuery> queries;
  for (const StepEntry& entry : batch.entries) {
    queries.push_back({entry.sequence->query().moe.get(), entry.row_count});
  }
  const model::FfnSpec& ffn = parts_.runner->model().spec.layers[static_cast<size_t>(layer)].ffn;
  return SteeringFor(layer, queries, ffn.moe);
}

absl::StatusOr<model::RoutedRows> RemoteMoe::Route(const MicroBatch& batch) {
  const int32_t layer = batch.cursor;
  const std::optional<model::GateSteering> steering = Steering(batch, layer);
  CCOE_ASSIGN_OR_RETURN(model::RoutedRows routed,
                        parts_.runner->Route(layer, steering.has_value() ? &*steering : nullptr));
  if (options_.moe_statistics != nullptr) {
    options_.moe_statistics->Add(layer, routed.offsets, routed.experts);
  }
  int64_t begin = 0;
  for (const StepEntry& entry : batch.entries) {
    entry.sequence->EmitRouting(entry.first_position, entry.row_count, begin, routed);
    begin += entry.row_count;
  }
  return routed;
}

FfnDispatchPlan RemoteMoe::Plan(const model::RoutedRows& routed, absl::Span<const int32_t> pairs,
                                const FfnTable& table, const SuspendedMoe* suspended) {
  FfnDispatchOptions options;
  options.combine = options_.combine_on_workers;
  options.max_part_pairs = max_part_pairs_;
  const exchange::SwapForm pair = {
      {hidden_size_, options_.wire_dtype}, /*experts_per_row=*/1, options_.combine_on_workers};
  std::vector<bool> usable;
  usable.reserve(table.peers.size());
  for (const FfnPeer& peer : table.peers) {
    usable.push_back(peer.link->healthy() &&
                     (suspended == nullptr || !suspended->failed.contains(peer.link)));
    const int64_t most = exchange::MaxRows(pair, peer.link->bounds());
    options.max_part_pairs = std::max<int64_t>(1, std::min(options.max_part_pairs, most));
  }
  options.turn = turn_++;
  options.here = suspended == nullptr;
  return PlanFfnDispatch(routed, pairs, table, usable, options);
}

absl::Status RemoteMoe::RunOwn(const model::RoutedRows& routed, absl::Span<const FfnPart> own) {
  for (const FfnPart& part : own) CCOE_RETURN_IF_ERROR(parts_.runner->RunHere(part, routed));
  return parts_.runner->RunShared(routed);
}

void RemoteMoe::AddSwaps(std::vector<FfnPart> parts, const FfnTable& table, Flight& flight) {
  for (FfnPart& part : parts) {
    AwaySwap& swap = flight.swaps.emplace_back();
    swap.peer = table.peers[static_cast<size_t>(part.peer)];
    swap.header.format = {hidden_size_, options_.wire_dtype};
    swap.header.work = std::move(part.swap);
    swap.part = std::move(part);
  }
}

absl::Status RemoteMoe::KeepRows(Flight& flight) {
  RowForm form;
  for (const AwaySwap& swap : flight.swaps) {
    if (form.memory == nullptr) form = FormFor(*swap.peer.link);
  }
  std::vector<int32_t> all(static_cast<size_t>(flight.moe->routed.rows.rows));
  std::iota(all.begin(), all.end(), 0);
  CCOE_ASSIGN_OR_RETURN(flight.moe->rows,
                        parts_.runner->HandOver(flight.moe->routed.rows, all, form));
  return absl::OkStatus();
}

absl::Status RemoteMoe::PackRows(Flight& flight) {
  const exchange::RowBlock& rows = flight.moe->rows;
  bool gathered = false;
  for (AwaySwap& swap : flight.swaps) {
    if (swap.state != AwaySwap::State::kUnsent) continue;
    if (!rows.on_device()) {
      swap.outgoing = {rows, swap.part.rows};
      continue;
    }
    CCOE_ASSIGN_OR_RETURN(
        swap.outgoing.block,
        parts_.runner->HandOver(rows.Rows(hidden_size_), swap.part.rows, FormFor(*swap.peer.link)));
    gathered = true;
  }
  return gathered ? parts_.runner->Wait() : absl::OkStatus();
}

// The rows that leave are on their way before those that stay are computed.
absl::Status RemoteMoe::Suspend(MicroBatch& batch, model::RoutedRows routed, FfnDispatchPlan plan,
                                const FfnTable& table) {
  auto held = std::make_unique<Flight>();
  Flight& flight = *held;
  SuspendedMoe& moe = flight.moe.emplace(parts_.runner->NewBatchState());
  moe.routed = std::move(routed);
  const auto away =
      std::stable_partition(plan.parts.begin(), plan.parts.end(),
                            [](const FfnPart& part) { return part.peer == FfnTable::kHere; });
  AddSwaps({std::make_move_iterator(away), std::make_move_iterator(plan.parts.end())}, table,
           flight);
  plan.parts.erase(away, plan.parts.end());
  moe.own = std::move(plan.parts);
  CCOE_RETURN_IF_ERROR(KeepRows(flight));
  CCOE_RETURN_IF_ERROR(PackRows(flight));
  const std::shared_ptr<Step> step = batch.step;  // stays with both
  flight.batch = std::move(batch);
  batch.step = step;
  std::vector<std::unique_ptr<Flight>> flights;
  flights.push_back(std::move(held));
  parts_.in_flight->Hold(std::move(flights));
  absl::StatusOr<BatchState> parked = RunOwnAndPark(moe);
  if (!parked.ok()) {
    batch = std::move(parts_.in_flight->Release(flight)->batch);
    return parked.status();
  }
  moe.parked = *std::move(parked);
  batch.entries.clear();
  batch.state = MicroBatch::State::kAway;
  return absl::OkStatus();
}

absl::StatusOr<BatchState> RemoteMoe::RunOwnAndPark(const SuspendedMoe& moe) {
  CCOE_RETURN_IF_ERROR(RunOwn(moe.routed, moe.own));
  return parts_.runner->Park();
}

absl::Status RemoteMoe::Finish(int32_t layer, const model::RoutedRows& routed,
                               absl::Span<const FfnPart> own, const std::list<AwaySwap>& away) {
  std::vector<const FfnPart*> parts;
  for (const FfnPart& part : own) parts.push_back(&part);
  for (const AwaySwap& swap : away) parts.push_back(&swap.part);
  const CombineOrder order = OrderOf(routed, parts, options_.combine_on_workers);
  Contributions contributions;
  contributions.offsets = order.offsets;
  size_t next = 0;
  if (!own.empty()) contributions.own_places = order.places[next++];
  for (const AwaySwap& swap : away) {
    contributions.arrived.push_back({swap.rows, order.places[next++]});
  }
  return parts_.runner->FinishMoe(layer, contributions);
}

absl::Status RemoteMoe::DropDead(MicroBatch& batch) {
  const std::vector<size_t> living = batch.Living();
  if (living.size() == batch.entries.size()) return absl::OkStatus();
  const std::vector<int32_t> rows = RowsOf(batch, living);
  KeepEntries(batch, living);
  return living.empty() ? absl::OkStatus() : parts_.runner->Keep(rows);
}

void RemoteMoe::Withdraw(MicroBatch& batch, const model::RoutedRows& routed,
                         std::vector<int32_t> pairs, const absl::Status& why,
                         absl::Duration waited) {
  std::sort(pairs.begin(), pairs.end());
  const std::string names = ExpertNames(routed, pairs);
  const absl::Status error =
      why.ok()
          ? exchange::SwapError(exchange::SwapReason::kLinkBroken,
                                absl::StrCat("step ", batch.step->id, ": no worker holds ", names,
                                             " now", LastHolders(routed, pairs, *Table())))
          : exchange::SwapError(exchange::ReasonOf(why),
                                absl::StrCat(why.message(), "; no other worker took ", names));
  for (const size_t i : EntriesOf(batch, routed, pairs)) {
    StepEntry& entry = batch.entries[i];
    if (!entry.alive()) continue;
    entry.withdrawn = true;
    parts_.recovery->TryStepAgain({entry.sequence, error}, waited, clock_.Now());
  }
}

void RemoteMoe::PutAside(Flight& flight, std::vector<int32_t> pairs, const absl::Status& why) {
  SuspendedMoe& moe = *flight.moe;
  const absl::Time now = clock_.Now();
  // Whoever is full has room later, whatever became of the others.
  if (moe.full.ok()) {
    return Withdraw(flight.batch, moe.routed, std::move(pairs), why, absl::ZeroDuration());
  }
  moe.full_since = std::min(moe.full_since, now);
  moe.unplaced.insert(moe.unplaced.end(), pairs.begin(), pairs.end());
  moe.next_try = std::min(moe.next_try, now + PauseBefore(moe.tries++));
}

std::vector<int32_t> RemoteMoe::LivingPairs(const Flight& flight, std::vector<int32_t> pairs) {
  std::sort(pairs.begin(), pairs.end());
  const std::vector<int32_t> ends = PairEnds(flight.batch, flight.moe->routed);
  size_t i = 0;
  const auto dead = [&](int32_t pair) {
    while (pair >= ends[i]) ++i;
    return !flight.batch.entries[i].alive();
  };
  pairs.erase(std::remove_if(pairs.begin(), pairs.end(), dead), pairs.end());
  return pairs;
}

// Entries wait as long as they hold up no others, and these for kHoldUp, doubled by each pause
// their queries had since their last token, lest one never gets through.
void RemoteMoe::EndLongWaits(Flight& flight) {
  SuspendedMoe& moe = *flight.moe;
  moe.unplaced = LivingPairs(flight, std::move(moe.unplaced));
  if (moe.unplaced.empty()) return;
  const std::vector<size_t> waiting = EntriesOf(flight.batch, moe.routed, moe.unplaced);
  int pauses = 0;
  absl::Duration stalled;
  for (const size_t i : waiting) {
    const RecoveryState& recovery = flight.batch.entries[i].sequence->recovery;
    pauses = std::max(pauses, recovery.pauses);
    stalled = std::max(stalled, recovery.stalled);
  }
  absl::Duration most = options_.room_patience - stalled;
  const bool holds_up = flight.landed() && waiting.size() < flight.batch.Living().size();
  if (holds_up) most = std::min(most, kHoldUp * (1 << std::min(pauses, 8)));
  const absl::Time now = clock_.Now();
  if (now - moe.full_since >= most) {
    Withdraw(flight.batch, moe.routed, std::exchange(moe.unplaced, {}), moe.full,
             now - moe.full_since);
  } else {
    moe.next_try = std::min(moe.next_try, moe.full_since + most);
  }
}

void RemoteMoe::Place(Flight& flight, absl::Span<const int32_t> pairs, const absl::Status& why) {
  const std::shared_ptr<const FfnTable> table = Table();
  FfnDispatchPlan plan = Plan(flight.moe->routed, pairs, *table, &*flight.moe);
  AddSwaps(std::move(plan.parts), *table, flight);
  if (!plan.lost.empty()) PutAside(flight, std::move(plan.lost), why);
  if (absl::Status packed = PackRows(flight); !packed.ok()) {
    // Nothing of this batch can be computed any more.
    parts_.output->FailPass(absl::MakeSpan(flight.batch.entries), packed);
    flight.moe->unplaced.clear();
    flight.swaps.remove_if(
        [](const AwaySwap& swap) { return swap.state == AwaySwap::State::kUnsent; });
  }
  Flight* const flights[] = {&flight};
  parts_.in_flight->Send(flights);
}

std::optional<RemoteMoe::Resumed> RemoteMoe::Land(InFlightTable::Landing landing,
                                                  absl::StatusOr<exchange::SwapResult> result) {
  Flight& flight = *landing.flight;
  AwaySwap& swap = *landing.swap;
  if (options_.observer != nullptr) {
    options_.observer->OnSwap(EventOf(swap, result, clock_.Now()));
  }
  absl::Status status = result.status();
  if (status.ok()) status = exchange::CheckResult(swap.header, *result);
  if (status.ok()) {
    swap.rows = result->TakeRows();
  } else {
    const AwaySwap failed = std::move(swap);
    flight.swaps.erase(landing.swap);
    flight.moe->failed.insert(failed.peer.link);
    status = Annotate(status, failed.Describe(*flight.batch.step));
    if (MeansFull(exchange::ReasonOf(status))) flight.moe->full = status;
    const std::vector<int32_t> pairs = LivingPairs(flight, failed.part.pairs);
    if (!pairs.empty()) Place(flight, pairs, status);
  }
  EndLongWaits(flight);
  return Resume(flight);
}

std::optional<RemoteMoe::Resumed> RemoteMoe::TryAgain() {
  for (Flight* flight : parts_.in_flight->DueMoe(clock_.Now())) {
    SuspendedMoe& moe = *flight->moe;
    const std::vector<int32_t> pairs = LivingPairs(*flight, std::exchange(moe.unplaced, {}));
    moe.next_try = absl::InfiniteFuture();
    moe.failed.clear();
    moe.full = absl::OkStatus();
    if (!pairs.empty()) Place(*flight, pairs, absl::OkStatus());
    EndLongWaits(*flight);
    if (std::optional<Resumed> resumed = Resume(*flight)) return resumed;
  }
  return std::nullopt;
}

std::optional<RemoteMoe::Resumed> RemoteMoe::Resume(Flight& waiting) {
  const bool alive = !waiting.batch.Living().empty();
  if (alive && !waiting.complete()) return std::nullopt;
  const std::unique_ptr<Flight> flight = parts_.in_flight->Release(waiting);
  SuspendedMoe& moe = *flight->moe;
  Resumed resumed;
  resumed.batch = std::move(flight->batch);
  if (moe.full_since < absl::InfiniteFuture()) {
    const absl::Duration waited = clock_.Now() - moe.full_since;
    for (StepEntry& entry : resumed.batch.entries) {
      if (entry.alive()) entry.sequence->recovery.stalled += waited;  // others have been told
    }
  }
  resumed.status = parts_.runner->Restore(std::move(moe.parked));
  if (!alive) {
    resumed.batch.entries.clear();
    return resumed;
  }
  if (resumed.status.ok()) {
    resumed.status = Finish(resumed.batch.cursor, moe.routed, moe.own, flight->swaps);
  }
  if (resumed.status.ok()) resumed.status = DropDead(resumed.batch);
  return resumed;
}

}  // namespace ccoe::engine
