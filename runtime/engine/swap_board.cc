#include "runtime/engine/swap_board.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace ccoe::engine {
std::string SwapFlight::Describe() const {
  return absl::StrCat("expert ", binding->expert.ToString(), " over ", binding->link->Name(),
                      ", swap ", id, ", layers [", binding->layers.first, ", ",
                      binding->layers.last, ")");
}

SwapBoard::SwapBoard(const SwapBoardOptions& options, std::shared_ptr<RequestQueue> inbox)
    : options_(options), inbox_(std::move(inbox)), patience_(options.step_patience) {}

void SwapBoard::Send(std::shared_ptr<Step> step, std::shared_ptr<const ExpertBinding> binding,
                     std::vector<StepEntry> entries, const exchange::RowBlock& rows) {
  SwapFlight flight;
  flight.id = TakeId();
  flight.header = HeaderFor(*binding, entries, options_.layer_count);
  flight.header.step_id = flight.id;
  flight.header.hidden_size = options_.hidden_size;
  flight.header.wire_dtype = options_.wire_dtype;
  flight.sent = absl::Now();
  flight.deadline = flight.sent + options_.swap_timeout;
  ++step->swaps_in_flight;
  for (StepEntry& entry : entries) entry.sequence->swapped = true;
  flight.step = std::move(step);
  flight.binding = std::move(binding);
  flight.entries = std::move(entries);
  const SwapFlight& kept = flights_.emplace(flight.id, std::move(flight)).first->second;

  kept.binding->link->Swap(
      kept.header, rows.on_device() ? rows : exchange::RowBlock(rows.Rows(options_.hidden_size)),
      kept.deadline, [inbox = inbox_, id = kept.id](absl::StatusOr<exchange::SwapResult> result) {
        inbox->Answer({id, std::move(result)});
      });
}

std::optional<SwapFlight> SwapBoard::Land(uint64_t swap_id, absl::Time now) {
  auto node = flights_.extract(swap_id);
  if (node.empty()) return std::nullopt;
  SwapFlight flight = std::move(node.mapped());
  --flight.step->swaps_in_flight;
  patience_.Observe(now - flight.sent);
  return flight;
}

std::vector<uint64_t> SwapBoard::Overdue(absl::Time now) const {
  std::vector<uint64_t> overdue;
  for (const auto& [id, flight] : flights_) {
    if (flight.deadline + kLinkGrace <= now) overdue.push_back(id);
  }
  return overdue;
}

void SwapBoard::Count(absl::Time now, Occupancy& occupancy) const {
  absl::flat_hash_set<const Step*> steps;
  for (const auto& [id, flight] : flights_) {
    if (flight.sent + patience_.now() <= now) continue;
    steps.insert(flight.step.get());
    occupancy.in_step += static_cast<int64_t>(flight.entries.size());
  }
  occupancy.steps_in_flight += static_cast<int>(steps.size());
}

absl::Time SwapBoard::NextEvent(absl::Time now) const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [id, flight] : flights_) {
    const absl::Time impatient = flight.sent + patience_.now();
    next = std::min(next, impatient > now ? impatient : flight.deadline + kLinkGrace);
  }
  return next;
}

int64_t SwapBoard::WireBytes(int64_t rows) const {
  return rows * options_.hidden_size *
         static_cast<int64_t>(kernels::DTypeBytes(options_.wire_dtype));
}

}  // namespace ccoe::engine
