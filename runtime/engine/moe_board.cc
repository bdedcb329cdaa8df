#include "runtime/engine/moe_board.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/check.h"

namespace ccoe::engine {
std::string AwayPart::Describe(uint64_t step_id) const {
  return absl::StrCat("expert worker ", peer.worker_id, " over ", peer.link->Name(), ", step ",
                      step_id, ", layer ", part.dispatch.layer);
}

bool MoeFlight::complete() const {
  return std::all_of(away.begin(), away.end(), [](const AwayPart& p) { return p.arrived; });
}

MoeBoard::MoeBoard(const MoeBoardOptions& options, std::shared_ptr<RequestQueue> inbox,
                   std::function<uint64_t()> next_id)
    : options_(options),
      inbox_(std::move(inbox)),
      next_id_(std::move(next_id)),
      patience_(options.step_patience) {}

void MoeBoard::Hold(std::unique_ptr<MoeFlight> flight) {
  MoeFlight& held = *flight;
  ++held.branch.step->swaps_in_flight;
  flights_.emplace(&held, std::move(flight));
  SendParts(held);
}

void MoeBoard::SendParts(MoeFlight& flight) {
  for (AwayPart& away : flight.away) {
    if (away.swap_id != 0) continue;
    away.swap_id = next_id_();
    away.sent = absl::Now();
    away.deadline = away.sent + options_.swap_timeout;
    by_swap_[away.swap_id] = &flight;
    exchange::StepHeader header;
    header.step_id = away.swap_id;
    header.hidden_size = options_.hidden_size;
    header.wire_dtype = options_.wire_dtype;
    header.ffn = away.part.dispatch;
    exchange::RowBlock rows = std::exchange(away.outgoing, {});
    if (rows.empty()) rows = RowsOfPart(away.part, flight.rows.host(), options_.hidden_size);
    away.peer.link->Swap(
        header, rows.on_device() ? rows : exchange::RowBlock(rows.Rows(header.hidden_size)),
        away.deadline, [inbox = inbox_, id = away.swap_id](auto result) {
          inbox->Answer({id, std::move(result)});
        });
  }
}

std::optional<MoeBoard::Landing> MoeBoard::Land(uint64_t swap_id, absl::Time now) {
  const auto found = by_swap_.find(swap_id);
  if (found == by_swap_.end()) return std::nullopt;
  MoeFlight* flight = found->second;
  by_swap_.erase(found);
  const auto part = std::find_if(flight->away.begin(), flight->away.end(),
                                 [&](const AwayPart& p) { return p.swap_id == swap_id; });
  CCOE_CHECK(part != flight->away.end());
  patience_.Observe(now - part->sent);
  return Landing{flight, part};
}

std::unique_ptr<MoeFlight> MoeBoard::Release(MoeFlight& flight) {
  auto node = flights_.extract(&flight);
  CCOE_CHECK(!node.empty() && flight.complete());
  --flight.branch.step->swaps_in_flight;
  return std::move(node.mapped());
}

void MoeBoard::Abandon(MoeFlight& flight) {
  for (const AwayPart& part : flight.away) by_swap_.erase(part.swap_id);
  --flight.branch.step->swaps_in_flight;
  flights_.erase(&flight);
}

std::vector<uint64_t> MoeBoard::Overdue(absl::Time now) const {
  std::vector<uint64_t> overdue;
  for (const auto& [key, flight] : flights_) {
    for (const AwayPart& part : flight->away) {
      if (!part.arrived && part.deadline + kLinkGrace <= now) overdue.push_back(part.swap_id);
    }
  }
  return overdue;
}

void MoeBoard::Count(absl::Time now, Occupancy& occupancy) const {
  absl::flat_hash_set<const Step*> steps;
  for (const auto& [key, flight] : flights_) {
    const bool fresh = std::any_of(flight->away.begin(), flight->away.end(), [&](const auto& p) {
      return !p.arrived && p.sent + patience_.now() > now;
    });
    if (!fresh) continue;
    steps.insert(flight->branch.step.get());
    occupancy.in_step += static_cast<int64_t>(flight->branch.entries.size());
  }
  occupancy.steps_in_flight += static_cast<int>(steps.size());
}

absl::Time MoeBoard::NextEvent(absl::Time now) const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [key, flight] : flights_) {
    for (const AwayPart& part : flight->away) {
      if (part.arrived) continue;
      const absl::Time impatient = part.sent + patience_.now();
      next = std::min(next, impatient > now ? impatient : part.deadline + kLinkGrace);
    }
  }
  return next;
}

}  // namespace ccoe::engine
