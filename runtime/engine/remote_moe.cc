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

constexpr absl::Duration kSeekPause = absl::Milliseconds(50);
constexpr absl::Duration kFirstPause = absl::Milliseconds(5);
constexpr int kMaxPauseDoublings = 8;  // 1.28 s

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

// "; the last was expert worker expert-2: the link is closed", of the first of `pairs`.
std::string LastHolder(const model::RoutedRows& routed, absl::Span<const int32_t> pairs,
                       const FfnTable& table) {
  const auto gone =
      table.gone.find({routed.layer, routed.experts[static_cast<size_t>(pairs.front())]});
  return gone == table.gone.end() ? "" : absl::StrCat("; the last was ", gone->second);
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

// Whether waiting for another worker may help.
bool MayPass(exchange::SwapReason reason) {
  switch (reason) {
    case exchange::SwapReason::kLinkBroken:
    case exchange::SwapReason::kShuttingDown:
    case exchange::SwapReason::kDeviceFailed:
    case exchange::SwapReason::kUnknownExpert:
      return true;
    default:
      return false;
  }
}

bool IsFull(exchange::SwapReason reason) {
  return reason == exchange::SwapReason::kQueueFull || reason == exchange::SwapReason::kLinkFull;
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
  const bool all_here = plan.lost.empty() &&
                        std::all_of(plan.parts.begin(), plan.parts.end(), [](const FfnPart& part) {
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
  std::vector<bool> usable;
  usable.reserve(table.peers.size());
  for (const FfnPeer& peer : table.peers) {
    usable.push_back(peer.link->healthy() &&
                     (suspended == nullptr || !suspended->broken.contains(peer.link.get())));
  }
  FfnDispatchOptions options;
  options.combine = options_.combine_on_workers;
  options.max_part_pairs = max_part_pairs_;
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
  flight.batch = batch;
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
  std::vector<std::unique_ptr<Flight>> flights;
  flights.push_back(std::move(held));
  parts_.in_flight->Hold(std::move(flights));
  absl::StatusOr<BatchState> parked = RunOwnAndPark(moe);
  if (!parked.ok()) {
    parts_.in_flight->Release(flight);
    return parked.status();
  }
  moe.parked = *std::move(parked);
  if (!plan.lost.empty()) {
    moe.unplaced = std::move(plan.lost);
    moe.patience = options_.replica_patience;
    moe.next_try = clock_.Now();
  }
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

void RemoteMoe::FailRows(absl::Span<StepEntry> entries, const model::RoutedRows& routed,
                         absl::Span<const int32_t> pairs, const absl::Status& status) {
  int64_t row = 0;
  size_t next = 0;
  for (size_t i = 0; i < entries.size() && next < pairs.size(); ++i) {
    row += entries[i].row_count;
    const int32_t end = routed.offsets[static_cast<size_t>(row)];  // of the entry's pairs
    if (pairs[next] < end) parts_.output->Fail(entries.subspan(i, 1), status);
    while (next < pairs.size() && pairs[next] < end) ++next;
  }
}

RemoteMoe::Retry RemoteMoe::RetryOf(const AwaySwap& failed, const Step& step,
                                    const absl::Status& why) const {
  const exchange::SwapReason reason = exchange::ReasonOf(why);
  Retry retry;
  retry.pairs = failed.part.pairs;
  retry.why = Annotate(why, failed.Describe(step));
  retry.at_once = !IsFull(reason);
  retry.patience = IsFull(reason)    ? options_.room_patience
                   : MayPass(reason) ? options_.replica_patience
                                     : absl::ZeroDuration();
  return retry;
}

void RemoteMoe::Fail(Flight& flight, absl::Span<const int32_t> pairs, const absl::Status& why) {
  const model::RoutedRows& routed = flight.moe->routed;
  const std::string names = ExpertNames(routed, pairs);
  const absl::Status error =
      why.ok() ? absl::UnavailableError(absl::StrCat("step ", flight.batch.step->id,
                                                     ": no worker holds ", names, " now",
                                                     LastHolder(routed, pairs, *Table())))
               : absl::Status(why.code(),
                              absl::StrCat(why.message(), "; no other worker holds ", names));
  FailRows(absl::MakeSpan(flight.batch.entries), routed, pairs, error);
}

void RemoteMoe::Wait(Flight& flight, std::vector<int32_t> pairs, const Retry& retry) {
  SuspendedMoe& moe = *flight.moe;
  const absl::Time now = clock_.Now();
  moe.unplaced_since = std::min(moe.unplaced_since, now);
  if (now - moe.unplaced_since >= retry.patience) {
    moe.unplaced_since = absl::InfiniteFuture();
    std::sort(pairs.begin(), pairs.end());
    return Fail(flight, pairs, retry.why);
  }
  moe.unplaced.insert(moe.unplaced.end(), pairs.begin(), pairs.end());
  moe.why = retry.why;
  moe.patience = retry.patience;
  const absl::Duration pause =
      retry.at_once ? kSeekPause : kFirstPause * (1 << std::min(moe.tries++, kMaxPauseDoublings));
  moe.next_try = std::min(moe.next_try, now + pause);
}

void RemoteMoe::Place(Flight& flight, Retry retry) {
  const std::shared_ptr<const FfnTable> table = Table();
  FfnDispatchPlan plan = Plan(flight.moe->routed, retry.pairs, *table, &*flight.moe);
  AddSwaps(std::move(plan.parts), *table, flight);
  if (!plan.lost.empty()) Wait(flight, std::move(plan.lost), retry);
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
    Retry retry = RetryOf(failed, *flight.batch.step, status);
    if (retry.at_once) {
      flight.moe->broken.insert(failed.peer.link.get());
      Place(flight, std::move(retry));
    } else {
      std::vector<int32_t> pairs = retry.pairs;
      Wait(flight, std::move(pairs), retry);
    }
  }
  return Resume(flight);
}

std::optional<RemoteMoe::Resumed> RemoteMoe::TryAgain() {
  for (Flight* flight : parts_.in_flight->DueMoe(clock_.Now())) {
    SuspendedMoe& moe = *flight->moe;
    Retry retry;
    retry.pairs = std::exchange(moe.unplaced, {});
    std::sort(retry.pairs.begin(), retry.pairs.end());
    retry.why = moe.why;
    retry.patience = moe.patience;
    moe.next_try = absl::InfiniteFuture();
    moe.broken.clear();  // they may be sound again
    Place(*flight, std::move(retry));
    if (moe.unplaced.empty()) moe.unplaced_since = absl::InfiniteFuture();
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
