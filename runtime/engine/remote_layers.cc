// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/remote_layers.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "runtime/base/status_macros.h"

namespace ccoe::engine {
namespace {

// Puts the layer outputs an expert captured into the entries' hidden states.
void StoreCaptured(const exchange::LayerSwap& header, const exchange::SwapResult& result,
                   int64_t width, std::vector<StepEntry>& entries) {
  if (result.captured.empty()) return;
  const float* from = result.captured.data();
  for (int32_t layer = 0; layer < header.layers.size(); ++layer) {
    for (StepEntry& entry : entries) {
      const int64_t values = entry.row_count * width;
      float* to = entry.hidden.data() + (header.layers.first + layer + 1) * values;
      std::copy(from, from + values, to);
      from += values;
    }
  }
}

bool Fits(const exchange::SwapHeader& header, const exchange::LinkBounds& bounds) {
  const exchange::SwapBytes bytes = exchange::SizeOf(header);
  return header.rows() <= bounds.max_rows && bytes.sent <= bounds.max_bytes &&
         bytes.returned <= bounds.max_bytes &&
         static_cast<int64_t>(header.layer()->sequences.size()) <= bounds.max_sequences;
}

std::vector<StepEntry> EntriesOf(const MicroBatch& batch, const std::vector<size_t>& numbers) {
  std::vector<StepEntry> entries;
  entries.reserve(numbers.size());
  for (const size_t i : numbers) entries.push_back(batch.entries[i]);
  return entries;
}

}  // namespace

// Rows of a batch that a flight's swap sends.
struct RemoteLayers::LeavingRows {
  AwaySwap* swap = nullptr;
  std::vector<int32_t> rows;
};

RemoteLayers::RemoteLayers(const EngineOptions& options, const Parts& parts)
    : options_(options), clock_(ClockOr(options.clock)), parts_(parts) {}

exchange::SwapHeader RemoteLayers::HeaderOf(const ExpertBinding& binding,
                                            absl::Span<const StepEntry> entries) const {
  exchange::SwapHeader header;
  header.format = {parts_.runner->hidden_size(), options_.wire_dtype};
  header.work = LayerSwapFor(binding, entries, parts_.runner->model().spec.layer_count());
  return header;
}

std::vector<std::vector<size_t>> RemoteLayers::CutToBounds(const MicroBatch& batch,
                                                           const LeavingGroup& group) const {
  const exchange::LinkBounds bounds = group.binding->link->bounds();
  if (Fits(HeaderOf(*group.binding, EntriesOf(batch, group.entries)), bounds)) {
    return {group.entries};
  }
  std::vector<std::vector<size_t>> pieces;
  for (const size_t i : group.entries) {
    if (!pieces.empty()) {
      pieces.back().push_back(i);
      if (Fits(HeaderOf(*group.binding, EntriesOf(batch, pieces.back())), bounds)) continue;
      pieces.back().pop_back();
    }
    pieces.push_back({i});
  }
  return pieces;
}

std::unique_ptr<Flight> RemoteLayers::FlightOf(const MicroBatch& batch, const LeavingGroup& group,
                                               const std::vector<size_t>& entries) const {
  auto flight = std::make_unique<Flight>();
  flight->binding = group.binding;
  flight->batch.step = batch.step;
  flight->batch.cursor = batch.cursor;
  flight->batch.head = group.binding->own_head != nullptr ? group.binding->own_head.get()
                                                          : parts_.runner->model().head.get();
  flight->batch.entries = EntriesOf(batch, entries);
  AwaySwap& swap = flight->swaps.emplace_back();
  swap.peer = {group.binding->worker_id, group.binding->link};
  swap.header = HeaderOf(*group.binding, flight->batch.entries);
  return flight;
}

// Rows that go in host memory are read at once, in one block that all swaps share.
absl::Status RemoteLayers::HandOver(std::vector<LeavingRows> leaving) {
  std::vector<int32_t> host_rows;
  for (LeavingRows& each : leaving) {
    exchange::RowMemory* const memory = each.swap->peer.link->device_memory();
    if (memory != nullptr) {
      CCOE_ASSIGN_OR_RETURN(each.swap->outgoing.block,
                            parts_.runner->HandOver(each.rows, {memory, options_.wire_dtype}));
      continue;
    }
    std::vector<int32_t>& index = each.swap->outgoing.index;
    index.resize(each.rows.size());
    std::iota(index.begin(), index.end(), static_cast<int32_t>(host_rows.size()));
    host_rows.insert(host_rows.end(), each.rows.begin(), each.rows.end());
  }
  if (!host_rows.empty()) {
    CCOE_ASSIGN_OR_RETURN(const exchange::RowBlock block, parts_.runner->HandOver(host_rows, {}));
    for (LeavingRows& each : leaving) {
      if (!each.swap->outgoing.index.empty()) each.swap->outgoing.block = block;
    }
  }
  return parts_.runner->Wait();
}

absl::Status RemoteLayers::SendAway(MicroBatch& batch, absl::Span<const LeavingGroup> groups) {
  const std::vector<size_t> staying = Staying(batch, groups);
  const std::vector<int64_t> first_rows = FirstRows(batch);
  std::vector<std::unique_ptr<Flight>> flights;
  std::vector<LeavingRows> leaving;
  for (const LeavingGroup& group : groups) {
    for (const std::vector<size_t>& piece : CutToBounds(batch, group)) {
      flights.push_back(FlightOf(batch, group, piece));
      leaving.push_back({&flights.back()->swaps.front(), RowsOf(batch, piece, first_rows)});
    }
  }
  CCOE_RETURN_IF_ERROR(HandOver(std::move(leaving)));
  for (const std::unique_ptr<Flight>& flight : flights) {
    for (StepEntry& entry : flight->batch.entries) entry.sequence->swapped = true;
  }
  const std::vector<int32_t> staying_rows = RowsOf(batch, staying);
  KeepEntries(batch, staying);
  parts_.in_flight->Hold(std::move(flights));
  if (staying.empty()) {
    batch.state = MicroBatch::State::kAway;
    return absl::OkStatus();
  }
  return parts_.runner->Keep(staying_rows);
}

RemoteLayers::Landed RemoteLayers::Land(InFlightTable::Landing landing,
                                        absl::StatusOr<exchange::SwapResult> result) {
  const AwaySwap swap = std::move(*landing.swap);
  const std::unique_ptr<Flight> flight = parts_.in_flight->Release(*landing.flight);
  Observe(swap, result);
  if (result.ok()) {
    const absl::Status shape = exchange::CheckResult(swap.header, *result);
    if (!shape.ok()) result = shape;
  }
  const exchange::LayerSwap& header = *swap.header.layer();
  Landed landed;
  landed.bindings.push_back(flight->binding);
  landed.batch.step = flight->batch.step;
  landed.batch.head = flight->batch.head;
  landed.batch.cursor = header.layers.last;
  if (result.ok()) {
    StoreCaptured(header, *result, swap.header.format.hidden_size, flight->batch.entries);
  }
  std::vector<Recovery::Failure> failures;
  for (size_t i = 0; i < flight->batch.entries.size(); ++i) {
    StepEntry& entry = flight->batch.entries[i];
    if (!result.ok() || !result->computed(i)) {
      const absl::Status& why = result.ok() ? result->verdicts[i] : result.status();
      failures.push_back({entry.sequence, Annotate(why, swap.Describe(*flight->batch.step))});
      continue;
    }
    landed.held.push_back({landed.returned, header.sequences[i].returned()});
    landed.returned += header.sequences[i].returned();
    landed.batch.entries.push_back(std::move(entry));
  }
  if (!failures.empty()) parts_.recovery->Recover(std::move(failures), clock_.Now());
  if (result.ok() && landed.returned > 0) landed.rows.push_back(result->TakeRows());
  return landed;
}

std::vector<RemoteLayers::Landed> RemoteLayers::Join(std::vector<Landed> landed) {
  std::vector<Landed> joined;
  absl::flat_hash_map<std::tuple<const Step*, int32_t, const model::LmHead*>, size_t> known;
  for (Landed& one : landed) {
    const auto [found, fresh] =
        known.try_emplace({one.batch.step.get(), one.batch.cursor, one.batch.head}, joined.size());
    if (fresh) {
      joined.push_back(std::move(one));
      continue;
    }
    Landed& all = joined[found->second];
    for (const HeldRows& held : one.held) {
      all.held.push_back({all.returned + held.begin, held.count});
    }
    all.returned += one.returned;
    std::move(one.batch.entries.begin(), one.batch.entries.end(),
              std::back_inserter(all.batch.entries));
    std::move(one.rows.begin(), one.rows.end(), std::back_inserter(all.rows));
    std::move(one.bindings.begin(), one.bindings.end(), std::back_inserter(all.bindings));
  }
  return joined;
}

void RemoteLayers::Observe(const AwaySwap& swap,
                           const absl::StatusOr<exchange::SwapResult>& result) const {
  if (options_.observer == nullptr) return;
  options_.observer->OnSwap(EventOf(swap, result, clock_.Now()));
}

}  // namespace ccoe::engine
