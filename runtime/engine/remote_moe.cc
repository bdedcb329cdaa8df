#include "runtime/engine/remote_moe.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/moe_control.h"
#include "runtime/engine/moe_statistics.h"

namespace ccoe::engine {
namespace {

// Of the contributions in one answer: well below what a message may hold, and small enough that a
// worker can begin while the next part is sent.
constexpr int64_t kMaxPartBytes = int64_t{16} << 20;

std::vector<int32_t> AllPairs(const model::RoutedRows& routed) {
  std::vector<int32_t> pairs(static_cast<size_t>(routed.pairs()));
  std::iota(pairs.begin(), pairs.end(), 0);
  return pairs;
}

// The parts that stay, and those that go.
struct SortedParts {
  std::vector<FfnPart> own;
  std::vector<AwayPart> away;
};

SortedParts Sort(std::vector<FfnPart> parts, const FfnTable& table) {
  SortedParts sorted;
  for (FfnPart& part : parts) {
    if (part.peer == FfnTable::kHere) {
      sorted.own.push_back(std::move(part));
      continue;
    }
    AwayPart& away = sorted.away.emplace_back();
    away.peer = table.peers[static_cast<size_t>(part.peer)];
    away.part = std::move(part);
  }
  return sorted;
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

bool AnyWantsRouting(const MicroBatch& branch) {
  return std::any_of(branch.entries.begin(), branch.entries.end(), [](const StepEntry& entry) {
    return entry.sequence->query().routing && entry.alive();
  });
}

bool IsHere(const std::vector<int32_t>& holders) {
  return std::find(holders.begin(), holders.end(), FfnTable::kHere) != holders.end();
}

std::shared_ptr<const FfnTable> TableOfAllHere(const model::ModelSpec& spec) {
  auto table = std::make_shared<FfnTable>();
  for (const model::LayerSpec& layer : spec.layers) {
    const int64_t experts = layer.ffn.is_moe() ? layer.ffn.moe.experts : 0;
    table->holders.emplace_back(experts, std::vector<int32_t>{FfnTable::kHere});
  }
  return table;
}

}  // namespace

RemoteMoe::RemoteMoe(const EngineOptions& options, const Parts& parts)
    : options_(options),
      parts_(parts),
      hidden_size_(parts.runner->hidden_size()),
      max_part_pairs_(std::max<int64_t>(
          1, kMaxPartBytes / (hidden_size_ * static_cast<int64_t>(sizeof(float))))),
      all_here_(parts.directory == nullptr ? TableOfAllHere(parts.runner->model().spec) : nullptr) {
}

std::shared_ptr<const FfnTable> RemoteMoe::Table() {
  return parts_.directory == nullptr ? all_here_ : parts_.directory->Table();
}

const std::vector<bool>& RemoteMoe::AllHere() {
  const std::shared_ptr<const FfnTable> table = Table();
  if (table == judged_.lock()) return judged_here_;
  const BackboneModel& model = parts_.runner->model();
  judged_here_.assign(model.spec.layers.size(), false);
  for (size_t layer = 0; layer < judged_here_.size() && layer < table->holders.size(); ++layer) {
    const auto& holders = table->holders[layer];
    judged_here_[layer] =
        static_cast<int64_t>(holders.size()) == model.spec.layers[layer].ffn.moe.experts &&
        std::all_of(holders.begin(), holders.end(), IsHere) &&
        model.decoder->HoldsAll(static_cast<int32_t>(layer));
  }
  judged_ = table;
  return judged_here_;
}

int32_t RemoteMoe::NextStop(const MicroBatch& branch, int32_t last) {
  const model::ModelSpec& spec = parts_.runner->model().spec;
  const bool routing = AnyWantsRouting(branch);
  for (int32_t layer = branch.cursor; layer < last; ++layer) {
    if (!spec.layers[static_cast<size_t>(layer)].ffn.is_moe()) continue;
    if (routing || !AllHere()[static_cast<size_t>(layer)] || Steering(branch, layer).has_value()) {
      return layer;
    }
  }
  return last;
}

absl::StatusOr<bool> RemoteMoe::Run(MicroBatch& branch) {
  const int32_t layer = branch.cursor;
  CCOE_RETURN_IF_ERROR(parts_.runner->Attend(layer, BatchOf(branch)));
  const std::shared_ptr<const FfnTable> table = Table();
  CCOE_ASSIGN_OR_RETURN(model::RoutedRows routed, Route(branch));
  FfnDispatchPlan plan = Plan(routed, AllPairs(routed), *table, nullptr);
  if (!plan.lost.empty()) {
    FailRows(absl::MakeSpan(branch.entries), routed, plan.lost,
             absl::UnavailableError(absl::StrCat("step ", branch.step->id, ": no worker holds ",
                                                 ExpertNames(routed, plan.lost), " now",
                                                 LastHolder(routed, plan.lost, *table))));
  }
  SortedParts sorted = Sort(std::move(plan.parts), *table);
  if (!sorted.away.empty()) {
    CCOE_RETURN_IF_ERROR(
        Suspend(branch, std::move(routed), std::move(sorted.own), std::move(sorted.away)));
    return false;
  }
  CCOE_RETURN_IF_ERROR(RunOwn(routed, sorted.own));
  CCOE_RETURN_IF_ERROR(Finish(layer, routed, sorted.own, {}));
  ++branch.cursor;
  CCOE_RETURN_IF_ERROR(DropDead(branch));
  return true;
}

std::optional<model::GateSteering> RemoteMoe::Steering(const MicroBatch& branch, int32_t layer) const {
  std::vector<RowsOfQuery> queries;
  for (const StepEntry& entry : branch.entries) {
    queries.push_back({entry.sequence->query().moe.get(), entry.row_count});
  }
  const model::FfnSpec& ffn = parts_.runner->model().spec.layers[static_cast<size_t>(layer)].ffn;
  return SteeringFor(layer, queries, ffn.moe);
}

absl::StatusOr<model::RoutedRows> RemoteMoe::Route(const MicroBatch& branch) {
  const int32_t layer = branch.cursor;
  const std::optional<model::GateSteering> steering = Steering(branch, layer);
  CCOE_ASSIGN_OR_RETURN(model::RoutedRows routed,
                        parts_.runner->Route(layer, steering.has_value() ? &*steering : nullptr));
  if (options_.moe_statistics != nullptr) {
    options_.moe_statistics->Add(layer, routed.offsets, routed.experts);
  }
  int64_t begin = 0;
  for (const StepEntry& entry : branch.entries) {
    entry.sequence->EmitRouting(entry.first_position, entry.row_count, begin, routed);
    begin += entry.row_count;
  }
  return routed;
}

FfnDispatchPlan RemoteMoe::Plan(const model::RoutedRows& routed, absl::Span<const int32_t> pairs,
                               const FfnTable& table, const MoeFlight* flight) {
  std::vector<bool> usable;
  for (const FfnPeer& peer : table.peers) {
    usable.push_back(peer.link->Health().ok() &&
                     (flight == nullptr || !flight->broken.contains(peer.link.get())));
  }
  FfnDispatchOptions options;
  options.combine = options_.combine_on_workers;
  options.max_part_pairs = max_part_pairs_;
  options.turn = turn_++;
  options.here = flight == nullptr;
  return PlanFfnDispatch(routed, pairs, table, usable, options);
}

absl::Status RemoteMoe::RunOwn(const model::RoutedRows& routed, absl::Span<const FfnPart> own) {
  for (const FfnPart& part : own) CCOE_RETURN_IF_ERROR(parts_.runner->RunHere(part, routed));
  return parts_.runner->RunShared(routed);
}

absl::Status RemoteMoe::KeepRows(MoeFlight& flight) {
  RowForm form;
  for (const AwayPart& part : flight.away) {
    if (form.memory == nullptr) form = FormFor(*part.peer.link);
  }
  std::vector<int32_t> all(static_cast<size_t>(flight.routed.rows.rows));
  std::iota(all.begin(), all.end(), 0);
  CCOE_ASSIGN_OR_RETURN(flight.rows, parts_.runner->HandOver(flight.routed.rows, all, form));
  return absl::OkStatus();
}

absl::Status RemoteMoe::PackParts(MoeFlight& flight) {
  if (!flight.rows.on_device()) return absl::OkStatus();
  for (AwayPart& part : flight.away) {
    if (part.swap_id != 0) continue;
    CCOE_ASSIGN_OR_RETURN(part.outgoing,
                          parts_.runner->HandOver(flight.rows.Rows(hidden_size_), part.part.rows,
                                                  FormFor(*part.peer.link)));
  }
  return parts_.runner->Wait();
}

// The rows that leave are on their way before those that stay are computed.
absl::Status RemoteMoe::Suspend(MicroBatch& branch, model::RoutedRows routed, std::vector<FfnPart> own,
                               std::vector<AwayPart> away) {
  auto held = std::make_unique<MoeFlight>(parts_.runner->NewParkedRows());
  MoeFlight& flight = *held;
  flight.branch = branch;
  flight.routed = std::move(routed);
  flight.own = std::move(own);
  for (AwayPart& part : away) flight.away.push_back(std::move(part));
  CCOE_RETURN_IF_ERROR(KeepRows(flight));
  CCOE_RETURN_IF_ERROR(PackParts(flight));
  parts_.board->Hold(std::move(held));
  absl::StatusOr<BatchState> parked = RunOwnAndPark(flight);
  if (!parked.ok()) {
    parts_.board->Abandon(flight);
    return parked.status();
  }
  flight.parked = *std::move(parked);
  branch.entries.clear();
  return absl::OkStatus();
}

absl::StatusOr<BatchState> RemoteMoe::RunOwnAndPark(const MoeFlight& flight) {
  CCOE_RETURN_IF_ERROR(RunOwn(flight.routed, flight.own));
  return parts_.runner->Park();
}

absl::Status RemoteMoe::Finish(int32_t layer, const model::RoutedRows& routed,
                              absl::Span<const FfnPart> own, const std::list<AwayPart>& away) {
  std::vector<const FfnPart*> parts;
  for (const FfnPart& part : own) parts.push_back(&part);
  for (const AwayPart& part : away) parts.push_back(&part.part);
  const CombineOrder order = OrderOf(routed, parts, options_.combine_on_workers);
  Contributions contributions;
  contributions.offsets = order.offsets;
  size_t next = 0;
  if (!own.empty()) contributions.own_places = order.places[next++];
  for (const AwayPart& part : away) {
    contributions.arrived.push_back({part.rows, order.places[next++]});
  }
  return parts_.runner->FinishMoe(layer, contributions);
}

absl::Status RemoteMoe::DropDead(MicroBatch& branch) {
  std::vector<size_t> living;
  for (size_t i = 0; i < branch.entries.size(); ++i) {
    if (branch.entries[i].alive()) living.push_back(i);
  }
  if (living.size() == branch.entries.size()) return absl::OkStatus();
  const std::vector<int32_t> rows = RowsOf(branch, living);
  KeepEntries(branch, living);
  return living.empty() ? absl::OkStatus() : parts_.runner->Keep(rows);
}

void RemoteMoe::FailRows(absl::Span<StepEntry> entries, const model::RoutedRows& routed,
                        absl::Span<const int32_t> pairs, const absl::Status& status) {
  int64_t row = 0;
  size_t next = 0;
  for (size_t i = 0; i < entries.size() && next < pairs.size(); ++i) {
    row += entries[i].row_count;
    const int32_t end = routed.offsets[static_cast<size_t>(row)];  // of the entry's pairs
    if (pairs[next] < end) parts_.delivery->Fail(entries.subspan(i, 1), status);
    while (next < pairs.size() && pairs[next] < end) ++next;
  }
}

absl::Status RemoteMoe::CheckAnswer(const AwayPart& part, const exchange::SwapResult& result) const {
  const exchange::FfnDispatch& dispatch = part.part.dispatch;
  const int64_t expected = (dispatch.combine ? dispatch.rows() : dispatch.pairs()) * hidden_size_;
  if (result.row_values() == expected) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("answer of a wrong size: expected ", expected,
                                          " values, found ", result.row_values()));
}

void RemoteMoe::SendElsewhere(MoeBoard::Landing landing, const absl::Status& why) {
  MoeFlight& flight = *landing.flight;
  const AwayPart failed = std::move(*landing.part);
  flight.away.erase(landing.part);
  flight.broken.insert(failed.peer.link.get());
  const std::shared_ptr<const FfnTable> table = parts_.directory->Table();
  FfnDispatchPlan plan = Plan(flight.routed, failed.part.pairs, *table, &flight);
  if (!plan.lost.empty()) {
    const std::string message =
        absl::StrCat(failed.Describe(flight.branch.step->id), ": ", why.message(),
                     "; no other worker holds ", ExpertNames(flight.routed, plan.lost));
    FailRows(absl::MakeSpan(flight.branch.entries), flight.routed, plan.lost,
             absl::Status(why.code(), message));
  }
  for (AwayPart& part : Sort(std::move(plan.parts), *table).away) {
    flight.away.push_back(std::move(part));
  }
  if (absl::Status packed = PackParts(flight); !packed.ok()) {
    // The device's: nothing of this branch can be computed any more.
    parts_.delivery->Fail(absl::MakeSpan(flight.branch.entries), packed);
    flight.away.remove_if([](const AwayPart& part) { return part.swap_id == 0; });
  }
  parts_.board->SendParts(flight);
}

void RemoteMoe::Observe(const AwayPart& part,
                       const absl::StatusOr<exchange::SwapResult>& result) const {
  if (options_.observer == nullptr) return;
  const exchange::FfnDispatch& dispatch = part.part.dispatch;
  const int64_t row_bytes =
      hidden_size_ * static_cast<int64_t>(kernels::DTypeBytes(options_.wire_dtype));
  SwapEvent event;
  event.link = part.peer.link->Name();
  event.bytes_out = dispatch.rows() * row_bytes;
  event.round_trip = absl::Now() - part.sent;
  event.code = result.status().code();
  if (result.ok()) {
    event.bytes_in = (dispatch.combine ? dispatch.rows() : dispatch.pairs()) * row_bytes;
    event.expert_time = result->expert_time;
  }
  options_.observer->OnSwap(event);
}

std::optional<RemoteMoe::Resumed> RemoteMoe::Land(SwapAnswer answer) {
  const std::optional<MoeBoard::Landing> landing = parts_.board->Land(answer.swap_id, absl::Now());
  if (!landing.has_value()) return std::nullopt;
  AwayPart& part = *landing->part;
  Observe(part, answer.result);
  absl::Status status = answer.result.status();
  if (status.ok()) status = CheckAnswer(part, *answer.result);
  if (status.ok()) {
    part.rows = answer.result->TakeRows();
    part.arrived = true;
  } else {
    SendElsewhere(*landing, status);
  }
  if (!landing->flight->complete()) return std::nullopt;
  const std::unique_ptr<MoeFlight> flight = parts_.board->Release(*landing->flight);
  Resumed resumed;
  resumed.branch = std::move(flight->branch);
  resumed.step = resumed.branch.step;
  resumed.status = parts_.runner->Restore(std::move(flight->parked));
  if (resumed.status.ok()) {
    resumed.status = Finish(resumed.branch.cursor, flight->routed, flight->own, flight->away);
  }
  ++resumed.branch.cursor;
  if (resumed.status.ok()) resumed.status = DropDead(resumed.branch);
  return resumed;
}

}  // namespace ccoe::engine
