// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/in_flight.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace ccoe::engine {
namespace {

// Swaps of one link that are not sent yet, and the step they belong to.
struct Outgoing {
  std::shared_ptr<exchange::ActivationLink> link;
  uint64_t step_id = 0;
  std::vector<std::pair<Flight*, AwaySwap*>> swaps;
};

std::vector<Outgoing> UnsentByLink(absl::Span<Flight* const> flights) {
  std::vector<Outgoing> outgoing;
  for (Flight* flight : flights) {
    for (AwaySwap& swap : flight->swaps) {
      if (swap.state != AwaySwap::State::kUnsent) continue;
      auto of_link = std::find_if(outgoing.begin(), outgoing.end(), [&](const Outgoing& o) {
        return o.link == swap.peer.link && o.step_id == flight->batch.step->id;
      });
      if (of_link == outgoing.end()) {
        of_link = outgoing.insert(of_link, {swap.peer.link, flight->batch.step->id, {}});
      }
      of_link->swaps.emplace_back(flight, &swap);
    }
  }
  return outgoing;
}

bool AnyAlive(const Flight& flight) {
  return std::any_of(flight.batch.entries.begin(), flight.batch.entries.end(),
                     [](const StepEntry& entry) { return entry.alive(); });
}

// When the last of the swaps that are away left; InfinitePast: none is.
absl::Time LastSent(const Flight& flight) {
  absl::Time last = absl::InfinitePast();
  for (const AwaySwap& swap : flight.swaps) {
    if (swap.state == AwaySwap::State::kAway) last = std::max(last, swap.sent);
  }
  return last;
}

}  // namespace

std::string AwaySwap::Describe(const Step& step) const {
  if (const exchange::LayerSwap* layer = header.layer()) {
    return absl::StrCat("expert ", layer->expert.ToString(), " over ", peer.link->Name(), ", swap ",
                        header.id, ", layers [", layer->layers.first, ", ", layer->layers.last,
                        ")");
  }
  return absl::StrCat("expert worker ", peer.worker_id, " over ", peer.link->Name(), ", step ",
                      step.id, ", layer ", header.ffn()->layer);
}

SwapEvent EventOf(const AwaySwap& swap, const absl::StatusOr<exchange::SwapResult>& result,
                  absl::Time now) {
  const exchange::SwapBytes bytes = exchange::SizeOf(swap.header);
  SwapEvent event;
  if (swap.header.layer() != nullptr) event.expert = swap.header.layer()->expert;
  event.link = swap.peer.link->Name();
  event.bytes_out = bytes.sent;
  event.round_trip = now - swap.sent;
  event.reason = exchange::ReasonOf(result.status());
  if (result.ok()) {
    event.bytes_in = bytes.returned;
    event.expert_time = result->expert_time;
  }
  return event;
}

bool Flight::landed() const {
  return std::all_of(swaps.begin(), swaps.end(),
                     [](const AwaySwap& swap) { return swap.state == AwaySwap::State::kArrived; });
}

InFlightTable::InFlightTable(const EngineOptions& options, std::shared_ptr<RequestQueue> queue)
    : options_(options),
      clock_(ClockOr(options.clock)),
      queue_(std::move(queue)),
      patience_(options.step_patience) {}

void InFlightTable::Hold(std::vector<std::unique_ptr<Flight>> flights) {
  std::vector<Flight*> held;
  for (std::unique_ptr<Flight>& flight : flights) {
    ++flight->batch.step->flights;
    held.push_back(flight.get());
    flights_.emplace(held.back(), std::move(flight));
  }
  Send(held);
}

void InFlightTable::Send(absl::Span<Flight* const> flights) {
  for (const Outgoing& outgoing : UnsentByLink(flights)) {
    std::vector<AwaySwap*> swaps;
    for (const auto& [flight, swap] : outgoing.swaps) {
      swap->header.id = ++last_id_;
      swap->state = AwaySwap::State::kAway;
      swap->sent = clock_.Now();
      by_swap_[swap->header.id] = flight;
      swaps.push_back(swap);
    }
    SendOver(outgoing.link, swaps, outgoing.step_id);
  }
}

void InFlightTable::SendOver(const std::shared_ptr<exchange::ActivationLink>& link,
                             absl::Span<AwaySwap* const> swaps, uint64_t step_id) {
  const exchange::LinkBounds bounds = link->bounds();
  exchange::Envelope envelope;
  exchange::SwapBytes bytes;
  int64_t rows = 0, sequences = 0;
  const auto send = [&] {
    if (envelope.swaps.empty()) return;
    envelope.step_id = step_id;
    link->Send(std::exchange(envelope, {}), [queue = queue_](uint64_t id, auto result) {
      queue->Answer({id, std::move(result)});
    });
    bytes = {};
    rows = sequences = 0;
  };
  for (AwaySwap* swap : swaps) {
    const exchange::SwapBytes more = exchange::SizeOf(swap->header);
    const int64_t more_rows = swap->header.rows();
    const exchange::LayerSwap* layer = swap->header.layer();
    const auto more_sequences =
        layer == nullptr ? int64_t{0} : static_cast<int64_t>(layer->sequences.size());
    if (rows + more_rows > bounds.max_rows || bytes.sent + more.sent > bounds.max_bytes ||
        bytes.returned + more.returned > bounds.max_bytes ||
        sequences + more_sequences > bounds.max_sequences ||
        static_cast<int64_t>(envelope.swaps.size()) >= bounds.max_swaps) {
      send();
    }
    bytes += more;
    rows += more_rows;
    sequences += more_sequences;
    envelope.swaps.push_back({swap->header, std::exchange(swap->outgoing, {})});
  }
  send();
}

std::optional<InFlightTable::Landing> InFlightTable::Land(uint64_t swap_id) {
  const auto found = by_swap_.find(swap_id);
  if (found == by_swap_.end()) return std::nullopt;
  Flight* const flight = found->second;
  by_swap_.erase(found);
  const auto swap = std::find_if(flight->swaps.begin(), flight->swaps.end(),
                                 [&](const AwaySwap& away) { return away.header.id == swap_id; });
  CCOE_CHECK(swap != flight->swaps.end());
  swap->state = AwaySwap::State::kArrived;
  patience_.Observe(clock_.Now() - swap->sent);
  return Landing{flight, swap};
}

void InFlightTable::Cancel(const Flight& flight) const {
  for (const AwaySwap& swap : flight.swaps) {
    if (swap.state == AwaySwap::State::kAway) swap.peer.link->CancelSwaps({swap.header.id});
  }
}

std::unique_ptr<Flight> InFlightTable::Release(Flight& flight) {
  Cancel(flight);
  for (const AwaySwap& swap : flight.swaps) by_swap_.erase(swap.header.id);
  auto node = flights_.extract(&flight);
  CCOE_CHECK(!node.empty());
  --flight.batch.step->flights;
  return std::move(node.mapped());
}

void InFlightTable::CancelDead() {
  for (const auto& [key, flight] : flights_) {
    if (!AnyAlive(*flight)) Cancel(*flight);
  }
}

void InFlightTable::Count(absl::Time now, Occupancy& occupancy) const {
  absl::flat_hash_set<const Step*> steps;
  for (const auto& [key, flight] : flights_) {
    const absl::Time sent = LastSent(*flight);
    if (sent == absl::InfinitePast() || sent + patience_.now() <= now) continue;
    steps.insert(flight->batch.step.get());
    occupancy.in_step += static_cast<int64_t>(flight->batch.Living().size());
  }
  occupancy.steps_in_flight += static_cast<int>(steps.size());
}

absl::Time InFlightTable::NextEvent(absl::Time counted) const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [key, flight] : flights_) {
    if (flight->moe.has_value()) next = std::min(next, flight->moe->next_try);
    for (const AwaySwap& swap : flight->swaps) {
      if (swap.state != AwaySwap::State::kAway) continue;
      const absl::Time impatient = swap.sent + patience_.now();
      if (impatient > counted) next = std::min(next, impatient);
      if (!swap.named_hung) next = std::min(next, swap.sent + options_.hung_after);
    }
  }
  return next;
}

std::vector<Flight*> InFlightTable::DueMoe(absl::Time now) const {
  std::vector<Flight*> due;
  for (const auto& [key, flight] : flights_) {
    if (flight->moe.has_value() && flight->moe->next_try <= now) due.push_back(flight.get());
  }
  return due;
}

std::vector<std::string> InFlightTable::TakeHung(absl::Time now) {
  std::vector<std::string> hung;
  for (const auto& [key, flight] : flights_) {
    for (AwaySwap& swap : flight->swaps) {
      if (swap.state != AwaySwap::State::kAway || swap.named_hung ||
          swap.sent + options_.hung_after > now) {
        continue;
      }
      swap.named_hung = true;
      hung.push_back(absl::StrCat(swap.Describe(*flight->batch.step), ", worker ",
                                  swap.peer.worker_id, ", step ", flight->batch.step->id,
                                  ": no answer for ", absl::FormatDuration(now - swap.sent), ": ",
                                  swap.peer.link->WhereIs(swap.header.id)));
    }
  }
  return hung;
}

}  // namespace ccoe::engine
