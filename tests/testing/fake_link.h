// A link that does what a test tells it: passes swaps on, fails them, holds them back, or never
// answers.
#ifndef CCOE_TESTS_TESTING_FAKE_LINK_H_
#define CCOE_TESTS_TESTING_FAKE_LINK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "runtime/exchange/activation_link.h"

namespace ccoe::testing {

// Thread-safe.
class FakeLink final : public exchange::ActivationLink {
 public:
  // Swaps that the script lets through go to `inner`; without one they are answered with the rows
  // sent.
  explicit FakeLink(std::unique_ptr<exchange::ActivationLink> inner = nullptr)
      : inner_(std::move(inner)) {}

  // Asked for each swap, by its number from 0: an error answers it, OK lets it through.
  using Script = std::function<absl::Status(int number, const exchange::StepHeader&)>;
  void SetScript(Script script) {
    absl::MutexLock lock(&mutex_);
    script_ = std::move(script);
  }

  // From now on swaps wait for LetGo (for ever, where it does not come). Releases are not held.
  void Hold() {
    absl::MutexLock lock(&mutex_);
    holds_ = true;
  }
  // Passes on what was held, in order, and holds no more.
  void LetGo() {
    std::vector<Held> held;
    {
      absl::MutexLock lock(&mutex_);
      holds_ = false;
      held.swap(held_);
    }
    for (Held& swap : held) Pass(std::move(swap));
  }
  // Waits until `count` swaps are held; false after a minute.
  bool AwaitHeld(size_t count) const {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return held_.size() >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Minutes(1));
  }

  std::vector<exchange::StepHeader> headers() const {
    absl::MutexLock lock(&mutex_);
    return headers_;
  }
  std::vector<uint64_t> released() const {
    absl::MutexLock lock(&mutex_);
    return released_;
  }

  void Swap(const exchange::StepHeader& header, const exchange::RowBlock& rows, absl::Time deadline,
            exchange::SwapCallback done) override {
    Held swap{header, rows, deadline, std::move(done)};
    if (!rows.on_device()) swap.rows = std::vector<float>(rows.host().begin(), rows.host().end());
    absl::Status verdict;
    {
      absl::MutexLock lock(&mutex_);
      const int number = static_cast<int>(headers_.size());
      headers_.push_back(header);
      if (script_) verdict = script_(number, header);
      if (verdict.ok() && holds_) {
        held_.push_back(std::move(swap));
        return;
      }
    }
    if (!verdict.ok()) return swap.done(verdict);
    Pass(std::move(swap));
  }

  exchange::RowMemory* device_memory() const override {
    return inner_ == nullptr ? nullptr : inner_->device_memory();
  }

  void ReleaseSequence(uint64_t sequence_id) override {
    {
      absl::MutexLock lock(&mutex_);
      released_.push_back(sequence_id);
    }
    if (inner_ != nullptr) inner_->ReleaseSequence(sequence_id);
  }

  absl::Status Health() const override { return absl::OkStatus(); }
  void Close() override {
    if (inner_ != nullptr) inner_->Close();
  }
  std::string Name() const override { return "fake"; }

 private:
  struct Held {
    exchange::StepHeader header;
    exchange::RowBlock rows;  // owned
    absl::Time deadline;
    exchange::SwapCallback done;
  };

  void Pass(Held swap) {
    if (inner_ != nullptr) {
      const exchange::RowBlock rows =
          swap.rows.on_device() ? swap.rows
                                : exchange::RowBlock(swap.rows.Rows(swap.header.hidden_size));
      return inner_->Swap(swap.header, rows, swap.deadline, std::move(swap.done));
    }
    swap.done(Echo(swap.header, {swap.rows.host().begin(), swap.rows.host().end()}));
  }

  static exchange::SwapResult Echo(const exchange::StepHeader& header,
                                   const std::vector<float>& rows) {
    exchange::SwapResult result;
    if (header.ffn.has_value()) return EchoPairs(*header.ffn, rows, header.hidden_size);
    int64_t row = 0;
    for (const exchange::SwapSequence& sequence : header.sequences) {
      row += sequence.row_count;
      const auto end = rows.begin() + row * header.hidden_size;
      result.rows.insert(result.rows.end(), end - sequence.returned() * header.hidden_size, end);
    }
    for (int32_t i = 0; header.capture_layers && i < header.layers.size(); ++i) {
      result.captured.insert(result.captured.end(), rows.begin(), rows.end());
    }
    return result;
  }

  static exchange::SwapResult EchoPairs(const exchange::FfnDispatch& dispatch,
                                        const std::vector<float>& rows, int64_t width) {
    exchange::SwapResult result;
    for (int64_t r = 0; r < dispatch.rows(); ++r) {
      const int32_t pairs = dispatch.offsets[r + 1] - dispatch.offsets[r];
      for (int32_t i = 0; i < (dispatch.combine ? 1 : pairs); ++i) {
        result.rows.insert(result.rows.end(), rows.begin() + r * width,
                           rows.begin() + (r + 1) * width);
      }
    }
    return result;
  }

  const std::unique_ptr<exchange::ActivationLink> inner_;
  mutable absl::Mutex mutex_;
  Script script_ ABSL_GUARDED_BY(mutex_);
  bool holds_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Held> held_ ABSL_GUARDED_BY(mutex_);
  std::vector<exchange::StepHeader> headers_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> released_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_FAKE_LINK_H_
