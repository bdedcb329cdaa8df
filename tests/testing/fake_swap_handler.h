// A SwapHandler that works without a model: each row that comes back is the row sent, negated
// (exact in f32 and bf16, so a row says who sent it); FFN expert e also doubles it e % 4 times.
// Answers at once, or when told, or what it is told; remembers everything.
#ifndef CCOE_TESTS_TESTING_FAKE_SWAP_HANDLER_H_
#define CCOE_TESTS_TESTING_FAKE_SWAP_HANDLER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
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
  // A swap or a release, in the order they came.
  struct Event {
    uint64_t peer_id = 0;
    uint64_t step_id = 0;      // of a swap
    uint64_t sequence_id = 0;  // of a release
    bool release = false;
    exchange::StepHeader header;
    std::vector<float> rows;
  };

  // Takes rows of `device` too and answers those there.
  explicit FakeSwapHandler(int64_t hidden_size, kernels::Device* device = nullptr)
      : hidden_size_(hidden_size), device_(device) {}

  // What a right answer to `header` and `rows` is.
  static exchange::SwapResult Negated(const exchange::StepHeader& header,
                                      const std::vector<float>& rows) {
    exchange::SwapResult result;
    result.expert_time = absl::Microseconds(7);
    const int64_t hidden = header.hidden_size;
    if (header.ffn.has_value()) {
      result.rows = Dispatched(*header.ffn, hidden, rows);
      return result;
    }
    int64_t row = 0;
    for (const exchange::SwapSequence& sequence : header.sequences) {
      const int64_t end = row + sequence.row_count;
      for (int64_t i = (end - sequence.returned()) * hidden; i < end * hidden; ++i)
        result.rows.push_back(-rows[i]);
      row = end;
    }
    for (int32_t layer = 0; header.capture_layers && layer < header.layers.size(); ++layer) {
      for (const float value : rows) result.captured.push_back(value + static_cast<float>(layer));
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

  // Answers come from here instead; nullptr: back to normal.
  using Script = std::function<absl::StatusOr<exchange::SwapResult>(const exchange::StepHeader&)>;
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

  void HandleSwap(uint64_t peer_id, const exchange::StepHeader& header, exchange::RowBlock rows,
                  exchange::SwapCallback done) override {
    std::vector<float> values = HostValues(rows);
    Held swap{peer_id, header, std::move(rows), std::move(values), std::move(done)};
    bool alive = false;
    {
      absl::MutexLock lock(&mutex_);
      events_.push_back({peer_id, header.step_id, 0, false, header, swap.values});
      alive = answering_.count(peer_id) > 0;
      if (alive && hold_) {
        held_.push_back(std::move(swap));
        return;
      }
      if (alive) ++answering_[peer_id];
    }
    if (!alive) return swap.done(absl::UnavailableError("the peer was removed"));
    Give(swap);
  }

  void HandleRelease(uint64_t peer_id, uint64_t sequence_id) override {
    absl::MutexLock lock(&mutex_);
    events_.push_back({peer_id, 0, sequence_id, true, {}, {}});
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
      std::vector<Held> others;
      for (Held& each : held_) (each.peer_id == peer_id ? held : others).push_back(std::move(each));
      held_.swap(others);
      auto idle = [this, peer_id]()
                      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return answering_[peer_id] == 0; };
      mutex_.Await(absl::Condition(&idle));
      answering_.erase(peer_id);
    }
    for (Held& each : held) each.done(absl::UnavailableError("the peer was removed"));
  }

  kernels::Device* device() const override { return device_; }
  int64_t hidden_size() const override { return hidden_size_; }

 private:
  struct Held {
    uint64_t peer_id = 0;
    exchange::StepHeader header;
    exchange::RowBlock rows;
    std::vector<float> values;  // the rows'
    exchange::SwapCallback done;
  };

  static std::vector<float> Dispatched(const exchange::FfnDispatch& ffn, int64_t hidden,
                                       const std::vector<float>& rows) {
    std::vector<float> results(static_cast<size_t>(ffn.returned() * hidden));
    for (int64_t row = 0; row < ffn.rows(); ++row) {
      for (int32_t pair = ffn.offsets[row]; pair < ffn.offsets[row + 1]; ++pair) {
        float* target = results.data() + (ffn.combine ? row : pair) * hidden;
        const float factor = -static_cast<float>(1 << (ffn.experts[pair] % 4));
        for (int64_t i = 0; i < hidden; ++i) target[i] += factor * rows[row * hidden + i];
      }
    }
    return results;
  }

  void Give(Held& swap) {
    absl::StatusOr<exchange::SwapResult> result = Answer(swap.header, swap.values);
    if (result.ok() && swap.rows.on_device() && !result->rows.empty()) {
      const std::vector<float> rows = std::exchange(result->rows, {});
      result->device_rows =
          ToDevice(*swap.rows.memory(),
                   kernels::F32Matrix(rows.data(), 1, static_cast<int64_t>(rows.size())),
                   swap.header.wire_dtype);
      ++on_device_;
    }
    swap.done(std::move(result));
    absl::MutexLock lock(&mutex_);
    --answering_[swap.peer_id];
  }

  absl::StatusOr<exchange::SwapResult> Answer(const exchange::StepHeader& header,
                                              const std::vector<float>& rows) {
    Script script;
    {
      absl::MutexLock lock(&mutex_);
      script = script_;
    }
    if (script) return script(header);
    return Negated(header, rows);
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
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_FAKE_SWAP_HANDLER_H_
