// SPDX-License-Identifier: Apache-2.0
// A SwapHandler that works without a model: each row that comes back is the row sent, negated
// (exact in f32 and bf16, so a row says who sent it); FFN expert e also doubles it e % 4 times.
// Answers at once, or when told, or what it is told; remembers everything.
#ifndef CCOE_TESTS_TESTING_FAKE_SWAP_HANDLER_H_
#define CCOE_TESTS_TESTING_FAKE_SWAP_HANDLER_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "runtime/exchange/activation_link.h"
#include "tests/testing/device_rows.h"

namespace ccoe::testing {

// Thread-safe.
class FakeSwapHandler final : public exchange::SwapHandler {
 public:
  // A swap, a release or the cancel of a swap, in the order they came.
  struct Event {
    uint64_t peer_id = 0;
    uint64_t step_id = 0;      // of a swap's envelope
    uint64_t swap_id = 0;      // of a swap or a cancel
    uint64_t sequence_id = 0;  // of a release
    bool release = false, cancel = false;
    exchange::SwapHeader header;
    std::vector<float> rows;
  };

  // Takes rows of `device` too and answers those there.
  explicit FakeSwapHandler(int64_t hidden_size, kernels::Device* device = nullptr)
      : hidden_size_(hidden_size), device_(device) {}

  // What a right answer to `header` and `rows` is, where the sequences in `released` are gone.
  static exchange::SwapResult Negated(const exchange::SwapHeader& header,
                                      const std::vector<float>& rows,
                                      const std::set<uint64_t>& released = {}) {
    exchange::SwapResult result;
    result.expert_time = absl::Microseconds(7);
    const int64_t hidden = header.format.hidden_size;
    if (header.ffn() != nullptr) {
      result.rows = Dispatched(*header.ffn(), hidden, rows);
      return result;
    }
    const exchange::LayerSwap& layer = *header.layer();
    int64_t row = 0;
    for (size_t s = 0; s < layer.sequences.size(); ++s) {
      const exchange::SwapSequence& sequence = layer.sequences[s];
      const int64_t end = row + sequence.row_count;
      const int64_t first = std::exchange(row, end) + sequence.row_count - sequence.returned();
      if (released.count(sequence.sequence_id) > 0) {
        result.verdicts.resize(layer.sequences.size());
        result.verdicts[s] = exchange::SwapError(exchange::SwapReason::kCancelled, "released");
        continue;
      }
      for (int64_t i = first * hidden; i < end * hidden; ++i) result.rows.push_back(-rows[i]);
    }
    for (int32_t i = 0; layer.capture_layers && i < layer.layers.size(); ++i) {
      for (const float value : rows) result.captured.push_back(value + static_cast<float>(i));
    }
    return result;
  }

  // From now on answers wait for AnswerHeld (or for the peer's end).
  void Hold() {
    absl::MutexLock lock(&mutex_);
    hold_ = true;
  }

  // Answers all that wait and stops holding.
  void AnswerHeld() {
    std::vector<Held> held;
    {
      absl::MutexLock lock(&mutex_);
      hold_ = false;
      held.swap(held_);
      for (const Held& each : held) ++answering_[each.peer_id];
    }
    for (Held& each : held) Give(each);
  }

  // A pass has ended, of whatever.
  void EndPass() {
    absl::MutexLock lock(&mutex_);
    ++passes_;
  }

  // Answers come from here instead; nullptr: back to normal.
  using Script = std::function<absl::StatusOr<exchange::SwapResult>(const exchange::SwapHeader&)>;
  void SetScript(Script script) {
    absl::MutexLock lock(&mutex_);
    script_ = std::move(script);
  }

  std::vector<Event> events() const {
    absl::MutexLock lock(&mutex_);
    return events_;
  }
  // Waits until `count` events have come; false after `timeout`.
  bool AwaitEvents(size_t count, absl::Duration timeout = absl::Seconds(30)) const {
    absl::MutexLock lock(&mutex_);
    auto enough = [this, count]()
                      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return events_.size() >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), timeout);
  }
  // Answers given on the device.
  int on_device() const { return on_device_.load(); }
  // Peers added and not removed.
  int peers() const {
    absl::MutexLock lock(&mutex_);
    return static_cast<int>(answering_.size());
  }
  bool AwaitPeers(int count, absl::Duration timeout = absl::Seconds(30)) const {
    absl::MutexLock lock(&mutex_);
    auto reached = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return static_cast<int>(answering_.size()) == count;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&reached), timeout);
  }

  void HandleEnvelope(uint64_t peer_id, exchange::Envelope envelope,
                      exchange::SwapCallback done) override {
    auto shared = std::make_shared<exchange::SwapCallback>(std::move(done));
    for (exchange::Swap& swap : envelope.swaps) {
      std::vector<float> values = Gathered(swap);
      Held held{
          peer_id, std::move(swap.header), std::move(swap.rows.block), std::move(values), shared,
          {}};
      if (const absl::Status refused = Take(held, envelope.step_id); !refused.ok()) {
        (*shared)(held.header.id, refused);
      }
    }
  }

  // Held swaps are answered; those answered long ago are not known.
  void HandleCancel(uint64_t peer_id, const std::vector<uint64_t>& swap_ids) override {
    std::vector<Held> cancelled;
    {
      absl::MutexLock lock(&mutex_);
      for (const uint64_t id : swap_ids) {
        Event event;
        event.peer_id = peer_id;
        event.swap_id = id;
        event.cancel = true;
        events_.push_back(std::move(event));
      }
      cancelled = ExtractLocked([&](const Held& each) {
        return each.peer_id == peer_id &&
               std::count(swap_ids.begin(), swap_ids.end(), each.header.id) > 0;
      });
    }
    for (Held& each : cancelled) {
      (*each.done)(each.header.id,
                   exchange::SwapError(exchange::SwapReason::kCancelled, "cancelled"));
    }
  }

  void HandleRelease(uint64_t peer_id, uint64_t sequence_id) override {
    absl::MutexLock lock(&mutex_);
    Event event;
    event.peer_id = peer_id;
    event.sequence_id = sequence_id;
    event.release = true;
    events_.push_back(std::move(event));
    for (Held& each : held_) {
      if (each.peer_id == peer_id) each.released.insert(sequence_id);
    }
  }

  uint64_t AddPeer() override {
    absl::MutexLock lock(&mutex_);
    answering_[++last_peer_] = 0;
    return last_peer_;
  }

  void RemovePeer(uint64_t peer_id) override {
    std::vector<Held> held;
    {
      absl::MutexLock lock(&mutex_);
      held = ExtractLocked([peer_id](const Held& each) { return each.peer_id == peer_id; });
      auto idle = [this, peer_id]()
                      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return answering_[peer_id] == 0; };
      mutex_.Await(absl::Condition(&idle));
      answering_.erase(peer_id);
    }
    for (Held& each : held) (*each.done)(each.header.id, Removed());
  }

  // It computes what it holds.
  exchange::HostProgress Progress() const override {
    absl::MutexLock lock(&mutex_);
    exchange::HostProgress progress;
    progress.passes = passes_;
    if (held_.empty()) return progress;
    progress.computing = "math@1";
    progress.since = absl::Milliseconds(5);
    return progress;
  }

  kernels::Device* device() const override { return device_; }
  int64_t hidden_size() const override { return hidden_size_; }
  std::string numerics() const override { return "fake numerics"; }

 private:
  struct Held {
    uint64_t peer_id = 0;
    exchange::SwapHeader header;
    exchange::RowBlock rows;
    std::vector<float> values;  // the rows'
    std::shared_ptr<exchange::SwapCallback> done;
    std::set<uint64_t> released;  // sequences, while it waited
  };

  static absl::Status Removed() {
    return exchange::SwapError(exchange::SwapReason::kLinkBroken, "the peer was removed");
  }

  // As a host takes them into a pass.
  static std::vector<float> Gathered(const exchange::Swap& swap) {
    std::vector<float> values = HostValues(swap.rows.block);
    if (!swap.rows.index.empty()) {
      const int64_t hidden = swap.header.format.hidden_size;
      std::vector<float> gathered;
      for (const int32_t row : swap.rows.index) {
        const auto first = values.begin() + row * hidden;
        gathered.insert(gathered.end(), first, first + hidden);
      }
      values = std::move(gathered);
    }
    exchange::RoundToWire(swap.header.format.dtype, absl::MakeSpan(values));
    return values;
  }

  static std::vector<float> Dispatched(const exchange::FfnSwap& ffn, int64_t hidden,
                                       const std::vector<float>& rows) {
    std::vector<float> results(static_cast<size_t>(ffn.returned_rows() * hidden));
    for (int64_t row = 0; row < ffn.rows(); ++row) {
      for (int32_t pair = ffn.offsets[row]; pair < ffn.offsets[row + 1]; ++pair) {
        float* target = results.data() + (ffn.combine ? row : pair) * hidden;
        const float factor = -static_cast<float>(1 << (ffn.experts[pair] % 4));
        for (int64_t i = 0; i < hidden; ++i) target[i] += factor * rows[row * hidden + i];
      }
    }
    return results;
  }

  // Holds or answers it; an error where its peer is gone, and then `swap` is untouched.
  absl::Status Take(Held& swap, uint64_t step_id) {
    {
      absl::MutexLock lock(&mutex_);
      events_.push_back(
          {swap.peer_id, step_id, swap.header.id, 0, false, false, swap.header, swap.values});
      if (answering_.count(swap.peer_id) == 0) return Removed();
      if (hold_) {
        held_.push_back(std::move(swap));
        return absl::OkStatus();
      }
      ++answering_[swap.peer_id];
    }
    Give(swap);
    return absl::OkStatus();
  }

  template <typename Wanted>
  std::vector<Held> ExtractLocked(Wanted wanted) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<Held> extracted, others;
    for (Held& each : held_) (wanted(each) ? extracted : others).push_back(std::move(each));
    held_.swap(others);
    return extracted;
  }

  void Give(Held& swap) {
    absl::StatusOr<exchange::SwapResult> result = Answer(swap);
    if (result.ok() && swap.rows.on_device() && !result->rows.empty()) {
      const std::vector<float> rows = std::exchange(result->rows, {});
      result->device_rows =
          ToDevice(*swap.rows.memory(),
                   kernels::F32Matrix(rows.data(), 1, static_cast<int64_t>(rows.size())),
                   swap.header.format.dtype);
      ++on_device_;
    }
    (*swap.done)(swap.header.id, std::move(result));
    absl::MutexLock lock(&mutex_);
    ++passes_;
    --answering_[swap.peer_id];
  }

  absl::StatusOr<exchange::SwapResult> Answer(const Held& swap) {
    Script script;
    {
      absl::MutexLock lock(&mutex_);
      script = script_;
    }
    if (script) return script(swap.header);
    return Negated(swap.header, swap.values, swap.released);
  }

  const int64_t hidden_size_;
  kernels::Device* const device_;
  std::atomic<int> on_device_ = 0;
  mutable absl::Mutex mutex_;
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  std::vector<Held> held_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, int> answering_ ABSL_GUARDED_BY(mutex_);  // living peers: answers being given
  Script script_ ABSL_GUARDED_BY(mutex_);
  bool hold_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_peer_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t passes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_FAKE_SWAP_HANDLER_H_
