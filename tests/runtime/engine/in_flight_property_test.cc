// SPDX-License-Identifier: Apache-2.0
// Whatever order answers, failures, cancels and deadlines come in: each swap is sent once and lands
// once at most, what was let go of never comes back, and what links and steps count stays right.
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "rapidcheck/gtest.h"
#include "runtime/engine/in_flight.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::TestBinding;
using ::ccoe::testing::TestSequence;

constexpr int64_t kHidden = 2;

// Keeps what it is sent until the test answers it.
class ScriptedLink final : public exchange::ActivationLink {
 public:
  explicit ScriptedLink(exchange::LinkBounds bounds) : bounds_(bounds) {}

  void Send(exchange::Envelope envelope, exchange::SwapCallback done) override {
    RC_ASSERT(!envelope.swaps.empty());
    RC_ASSERT(static_cast<int64_t>(envelope.swaps.size()) <= bounds_.max_swaps);
    int64_t rows = 0;
    for (const exchange::Swap& swap : envelope.swaps) {
      RC_ASSERT(swap.header.id > last_id_);  // rise along a link
      last_id_ = swap.header.id;
      RC_ASSERT(swap.rows.count(kHidden) == swap.header.rows());
      rows += swap.header.rows();
    }
    // One swap that is too large by itself is the engine's to cut.
    RC_ASSERT(rows <= bounds_.max_rows || envelope.swaps.size() == 1);
    const auto shared = std::make_shared<exchange::SwapCallback>(std::move(done));
    for (const exchange::Swap& swap : envelope.swaps) away_.emplace(swap.header.id, shared);
  }
  void CancelSwaps(std::vector<uint64_t> swap_ids) override {
    cancelled_.insert(swap_ids.begin(), swap_ids.end());
  }
  void ReleaseSequence(uint64_t /*sequence_id*/) override {}
  bool healthy() const override { return true; }
  absl::Status Health() const override { return absl::OkStatus(); }
  std::string WhereIs(uint64_t /*swap_id*/) const override { return "held by the test"; }
  exchange::LinkBounds bounds() const override { return bounds_; }
  void Close() override {}
  std::string Name() const override { return "scripted"; }

  void Answer(uint64_t id, absl::StatusOr<exchange::SwapResult> result) {
    const auto found = away_.find(id);
    RC_ASSERT(found != away_.end());
    (*found->second)(id, std::move(result));
    away_.erase(found);
  }
  const std::map<uint64_t, std::shared_ptr<exchange::SwapCallback>>& away() const { return away_; }
  const std::set<uint64_t>& cancelled() const { return cancelled_; }

 private:
  const exchange::LinkBounds bounds_;
  uint64_t last_id_ = 0;
  std::map<uint64_t, std::shared_ptr<exchange::SwapCallback>> away_;
  std::set<uint64_t> cancelled_;
};

class Scenario {
 public:
  Scenario() {
    options_.clock = &clock_;
    options_.step_patience = absl::Seconds(1);
    options_.hung_after = absl::Seconds(2);
    table_ = std::make_unique<InFlightTable>(options_, queue_);
    for (int i = 0; i < 3; ++i) {
      exchange::LinkBounds bounds;
      bounds.max_swaps = *rc::gen::inRange<int64_t>(1, 4).as("max_swaps");
      bounds.max_rows = *rc::gen::inRange<int64_t>(1, 6).as("max_rows");
      links_.push_back(std::make_shared<ScriptedLink>(bounds));
    }
  }

  void Run() {
    const int moves = *rc::gen::inRange(0, 60).as("moves");
    for (int i = 0; i < moves; ++i) {
      Move(*rc::gen::inRange(0, 8).as("move"));
      Check();
    }
    // In the end all answers come.
    for (const auto& link : links_) {
      while (!link->away().empty()) link->Answer(link->away().begin()->first, Failure());
    }
    Drain();
    Check();
    while (!flights_.empty()) Release(flights_.begin()->first);
    RC_ASSERT(table_->empty());
    for (const auto& step : steps_) RC_ASSERT(step->flights == 0);
    RC_ASSERT(table_->NextEvent(clock_.Now()) == absl::InfiniteFuture());
  }

 private:
  struct Held {
    std::set<uint64_t> away;  // ids of swaps that have not landed
    std::shared_ptr<Sequence> sequence;
    std::shared_ptr<Step> step;
  };

  static absl::Status Failure() {
    return exchange::SwapError(exchange::SwapReason::kLinkBroken, "broken");
  }

  void Move(int move) {
    switch (move) {
      case 0:
      case 1:
        return Begin();
      case 2:
      case 3:
        return AnswerOne();
      case 4:
        return Drain();
      case 5:
        if (!flights_.empty()) Release(AnyFlight());
        return;
      case 6:
        return EndAQuery();
      default:
        return PassTime();
    }
  }

  const Flight* AnyFlight() {
    const auto number = *rc::gen::inRange<size_t>(0, flights_.size()).as("flight");
    return std::next(flights_.begin(), static_cast<std::ptrdiff_t>(number))->first;
  }

  // Flights of one step, each with a swap to some links.
  void Begin() {
    steps_.push_back(std::make_shared<Step>());
    steps_.back()->id = steps_.size();
    std::vector<std::unique_ptr<Flight>> flights;
    std::vector<const Flight*> fresh;
    const int count = *rc::gen::inRange(1, 4).as("flights");
    for (int i = 0; i < count; ++i) {
      auto flight = std::make_unique<Flight>();
      flight->batch.step = steps_.back();
      StepEntry& entry = flight->batch.entries.emplace_back();
      entry.row_count = *rc::gen::inRange<int64_t>(1, 5).as("rows");
      entry.sequence = TestSequence(++last_handle_, entry.row_count, recorder_, nullptr);
      for (const auto& link : links_) {
        if (!flight->swaps.empty() && *rc::gen::arbitrary<bool>()) continue;
        AddSwap(*flight, link);
      }
      flights_[flight.get()] = {{}, entry.sequence, steps_.back()};
      fresh.push_back(flight.get());
      flights.push_back(std::move(flight));
    }
    table_->Hold(std::move(flights));
    for (const Flight* flight : fresh) {
      for (const AwaySwap& swap : flight->swaps) {
        RC_ASSERT(swap.state == AwaySwap::State::kAway);
        RC_ASSERT(known_.insert(swap.header.id).second);  // never given twice
        flights_[flight].away.insert(swap.header.id);
      }
    }
  }

  void AddSwap(Flight& flight, const std::shared_ptr<ScriptedLink>& link) {
    AwaySwap& swap = flight.swaps.emplace_back();
    swap.peer = {"expert", link};
    swap.header.format = {kHidden, kernels::DType::kF32};
    const auto binding = TestBinding("math", {4, 8}, link);
    swap.header.work = LayerSwapFor(*binding, flight.batch.entries, 8);
    swap.outgoing.block =
        std::vector<float>(static_cast<size_t>(flight.batch.entries[0].row_count * kHidden));
  }

  // Well or not; it is only on its way to the table then.
  void AnswerOne() {
    const auto link = links_[*rc::gen::inRange<size_t>(0, links_.size()).as("link")];
    if (link->away().empty()) return;
    const auto number = *rc::gen::inRange<size_t>(0, link->away().size()).as("swap");
    const uint64_t id = std::next(link->away().begin(), static_cast<std::ptrdiff_t>(number))->first;
    if (*rc::gen::arbitrary<bool>().as("fails")) return link->Answer(id, Failure());
    link->Answer(id, exchange::SwapResult());
  }

  // The engine's thread takes the answers that have come.
  void Drain() {
    for (const SwapAnswer& answer : queue_->Take(absl::ZeroDuration()).answers) {
      const std::optional<InFlightTable::Landing> landing = table_->Land(answer.swap_id);
      const auto owner = OwnerOf(answer.swap_id);
      RC_ASSERT(landing.has_value() == (owner != flights_.end()));
      if (landing.has_value()) {
        RC_ASSERT(landing->flight == owner->first);
        RC_ASSERT(landing->swap->header.id == answer.swap_id);
        RC_ASSERT(landing->swap->state == AwaySwap::State::kArrived);
        owner->second.away.erase(answer.swap_id);
      }
      RC_ASSERT(!table_->Land(answer.swap_id).has_value());  // once
    }
  }

  std::map<const Flight*, Held>::iterator OwnerOf(uint64_t id) {
    auto owner = flights_.begin();
    while (owner != flights_.end() && owner->second.away.count(id) == 0) ++owner;
    return owner;
  }

  // Nobody waits for it any more: what is away of it is cancelled, and nothing else.
  void Release(const Flight* flight) {
    const Held held = flights_.at(flight);
    const std::set<uint64_t> before = Cancelled();
    const auto released = table_->Release(const_cast<Flight&>(*flight));
    RC_ASSERT(released.get() == flight);
    std::set<uint64_t> expected = before;
    expected.insert(held.away.begin(), held.away.end());
    RC_ASSERT(Cancelled() == expected);
    flights_.erase(flight);
  }

  void EndAQuery() {
    if (flights_.empty()) return;
    const Flight* const flight = AnyFlight();
    Sequence& sequence = *flights_.at(flight).sequence;
    if (sequence.finished()) return;
    sequence.Finish(FinishReason::kCancelled, absl::OkStatus(), clock_.Now());
    const std::set<uint64_t> before = Cancelled();
    table_->CancelDead();
    std::set<uint64_t> expected = before;
    for (const auto& [each, held] : flights_) {
      if (held.sequence->finished()) expected.insert(held.away.begin(), held.away.end());
    }
    RC_ASSERT(Cancelled() == expected);
  }

  std::set<uint64_t> Cancelled() const {
    std::set<uint64_t> all;
    for (const auto& link : links_) all.insert(link->cancelled().begin(), link->cancelled().end());
    return all;
  }

  void PassTime() {
    clock_.Advance(absl::Milliseconds(*rc::gen::inRange(0, 3000).as("ms")));
    const size_t hung = table_->TakeHung(clock_.Now()).size();
    RC_ASSERT(hung <= AwayNow());
    RC_ASSERT(table_->TakeHung(clock_.Now()).empty());  // named once
  }

  size_t AwayNow() const {
    size_t away = 0;
    for (const auto& [flight, held] : flights_) away += held.away.size();
    return away;
  }

  // What holds at all times.
  void Check() {
    RC_ASSERT(table_->empty() == flights_.empty());
    std::map<const Step*, int> of_step;
    for (const auto& [flight, held] : flights_) {
      ++of_step[held.step.get()];
      RC_ASSERT(flight->landed() == held.away.empty());
    }
    for (const auto& step : steps_) RC_ASSERT(step->flights == of_step[step.get()]);
    Occupancy occupancy;
    table_->Count(clock_.Now(), occupancy);
    RC_ASSERT(occupancy.steps_in_flight <= static_cast<int>(of_step.size()));
    RC_ASSERT(occupancy.in_step <= static_cast<int64_t>(flights_.size()));
    if (AwayNow() == 0) RC_ASSERT(occupancy.steps_in_flight == 0);
  }

  AnswerRecorder recorder_;
  testing::FakeClock clock_;
  EngineOptions options_;
  std::vector<std::shared_ptr<ScriptedLink>> links_;
  std::shared_ptr<RequestQueue> queue_ = std::make_shared<RequestQueue>(4, 1);
  std::unique_ptr<InFlightTable> table_;
  std::vector<std::shared_ptr<Step>> steps_;
  std::map<const Flight*, Held> flights_;  // that the table holds
  std::set<uint64_t> known_;
  uint64_t last_handle_ = 0;
};

RC_GTEST_PROP(InFlightPropertyTest, EverySwapEndsOnceWhateverHappens, ()) { Scenario().Run(); }

}  // namespace
}  // namespace ccoe::engine
