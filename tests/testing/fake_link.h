// SPDX-License-Identifier: Apache-2.0
// A link that does what a test tells it: passes swaps on, fails them, holds them back, or never
// answers.
#ifndef CCOE_TESTS_TESTING_FAKE_LINK_H_
#define CCOE_TESTS_TESTING_FAKE_LINK_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "runtime/exchange/activation_link.h"

namespace ccoe::testing {

// Thread-safe.
class FakeLink final : public exchange::ActivationLink {
 public:
  // Swaps that the script lets through go to `inner`; without one they are answered with the rows
  // sent.
  explicit FakeLink(std::unique_ptr<exchange::ActivationLink> inner = nullptr)
      : inner_(std::move(inner)) {}

  // Asked for each swap, by its number from 0: an error answers it (exchange::SwapError gives it a
  // reason), OK lets it through.
  using Script = std::function<absl::Status(int number, const exchange::SwapHeader&)>;
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
    std::vector<Sent> held;
    {
      absl::MutexLock lock(&mutex_);
      holds_ = false;
      held.swap(held_);
    }
    for (Sent& swap : held) Pass(std::move(swap));
  }
  // Waits until `count` swaps are held; false after a minute.
  bool AwaitHeld(size_t count) const {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return held_.size() >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Minutes(1));
  }
  // The peer is gone: what is held, and what still comes, is answered with kLinkBroken.
  void Break() {
    std::vector<Sent> held;
    {
      absl::MutexLock lock(&mutex_);
      broken_ = true;
      held.swap(held_);
    }
    for (Sent& swap : held) (*swap.done)(swap.swap.header.id, Health());
  }

  // Of all swaps, in order, and how many of them each envelope had.
  std::vector<exchange::SwapHeader> headers() const {
    absl::MutexLock lock(&mutex_);
    return headers_;
  }
  std::vector<size_t> envelopes() const {
    absl::MutexLock lock(&mutex_);
    return envelopes_;
  }
  std::vector<uint64_t> released() const {
    absl::MutexLock lock(&mutex_);
    return released_;
  }
  std::vector<uint64_t> cancelled() const {
    absl::MutexLock lock(&mutex_);
    return cancelled_;
  }
  // Of envelopes sent from now on.
  void SetBounds(exchange::LinkBounds bounds) { bounds_ = bounds; }

  void Send(exchange::Envelope envelope, exchange::SwapCallback done) override {
    {
      absl::MutexLock lock(&mutex_);
      envelopes_.push_back(envelope.swaps.size());
    }
    const auto shared = std::make_shared<exchange::SwapCallback>(std::move(done));
    for (exchange::Swap& swap : envelope.swaps) {
      SendOne({envelope.step_id, std::move(swap), shared});
    }
  }

  void CancelSwaps(std::vector<uint64_t> swap_ids) override {
    {
      absl::MutexLock lock(&mutex_);
      cancelled_.insert(cancelled_.end(), swap_ids.begin(), swap_ids.end());
    }
    if (inner_ != nullptr) inner_->CancelSwaps(std::move(swap_ids));
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

  bool healthy() const override { return !broken_; }
  absl::Status Health() const override {
    return broken_ ? exchange::SwapError(exchange::SwapReason::kLinkBroken, "the peer died")
                   : absl::OkStatus();
  }
  std::string WhereIs(uint64_t) const override { return "held by the test"; }
  exchange::LinkBounds bounds() const override { return bounds_; }
  void Close() override {
    if (inner_ != nullptr) inner_->Close();
  }
  std::string Name() const override { return "fake"; }

 private:
  struct Sent {
    uint64_t step_id = 0;
    exchange::Swap swap;
    std::shared_ptr<exchange::SwapCallback> done;
  };

  void SendOne(Sent sent) {
    absl::Status verdict;
    {
      absl::MutexLock lock(&mutex_);
      const int number = static_cast<int>(headers_.size());
      headers_.push_back(sent.swap.header);
      if (script_) verdict = script_(number, sent.swap.header);
      if (verdict.ok()) verdict = Health();
      if (verdict.ok() && holds_) {
        held_.push_back(std::move(sent));
        return;
      }
    }
    if (!verdict.ok()) return (*sent.done)(sent.swap.header.id, verdict);
    Pass(std::move(sent));
  }

  void Pass(Sent sent) {
    if (inner_ == nullptr) {
      return (*sent.done)(sent.swap.header.id, Echo(sent.swap.header, HostRows(sent.swap)));
    }
    exchange::Envelope envelope;
    envelope.step_id = sent.step_id;
    envelope.swaps.push_back(std::move(sent.swap));
    inner_->Send(std::move(envelope),
                 [done = sent.done](uint64_t id, auto result) { (*done)(id, std::move(result)); });
  }

  static std::vector<float> HostRows(const exchange::Swap& swap) {
    const absl::Span<const float> all = swap.rows.block.host();
    if (swap.rows.index.empty()) return {all.begin(), all.end()};
    const int64_t width = swap.header.format.hidden_size;
    std::vector<float> rows;
    for (const int32_t row : swap.rows.index) {
      rows.insert(rows.end(), all.begin() + row * width, all.begin() + (row + 1) * width);
    }
    return rows;
  }

  static exchange::SwapResult Echo(const exchange::SwapHeader& header,
                                   const std::vector<float>& rows) {
    const int64_t width = header.format.hidden_size;
    if (header.ffn() != nullptr) return EchoPairs(*header.ffn(), rows, width);
    exchange::SwapResult result;
    const exchange::LayerSwap& layer = *header.layer();
    int64_t row = 0;
    for (const exchange::SwapSequence& sequence : layer.sequences) {
      row += sequence.row_count;
      const auto end = rows.begin() + row * width;
      result.rows.insert(result.rows.end(), end - sequence.returned() * width, end);
    }
    for (int32_t i = 0; layer.capture_layers && i < layer.layers.size(); ++i) {
      result.captured.insert(result.captured.end(), rows.begin(), rows.end());
    }
    return result;
  }

  static exchange::SwapResult EchoPairs(const exchange::FfnSwap& dispatch,
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
  std::atomic<bool> broken_ = false;
  exchange::LinkBounds bounds_;
  mutable absl::Mutex mutex_;
  Script script_ ABSL_GUARDED_BY(mutex_);
  bool holds_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Sent> held_ ABSL_GUARDED_BY(mutex_);
  std::vector<exchange::SwapHeader> headers_ ABSL_GUARDED_BY(mutex_);
  std::vector<size_t> envelopes_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> released_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> cancelled_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_FAKE_LINK_H_
