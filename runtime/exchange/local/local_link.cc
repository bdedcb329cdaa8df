#include "runtime/exchange/local/local_link.h"

#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "runtime/exchange/row_codec.h"
#include "runtime/exchange/swaps_in_flight.h"

namespace ccoe::exchange {
namespace {

RowBlock RoundedCopy(kernels::ConstMatrix rows, kernels::DType wire) {
  std::vector<float> copy;
  copy.reserve(rows.rows * rows.cols);
  for (int64_t r = 0; r < rows.rows; ++r) {
    const float* row = static_cast<const float*>(rows.Row(r));
    copy.insert(copy.end(), row, row + rows.cols);
  }
  RoundToWire(wire, absl::MakeSpan(copy));
  return RowBlock(std::move(copy));
}

class LocalLink final : public ActivationLink {
 public:
  LocalLink(SwapHandler* handler, const LinkOptions& options)
      : handler_(handler),
        limits_(options.limits),
        memory_(options.memory != nullptr && options.memory->device() == handler->device()
                    ? options.memory
                    : nullptr),
        peer_(handler->AddPeer()) {
    SwapsInFlight::Options swaps;
    swaps.link_name = Name();
    swaps.max_swaps = options.max_swaps_in_flight;
    swaps.on_closed = [handler, peer = peer_] { handler->RemovePeer(peer); };
    swaps_ = std::make_shared<SwapsInFlight>(std::move(swaps));
  }

  ~LocalLink() override { swaps_->Stop(); }

  void Swap(const StepHeader& header, const RowBlock& rows, absl::Time deadline,
            SwapCallback done) override {
    absl::Status good = CheckSwap(header, rows, handler_->hidden_size(), limits_, memory_.get());
    if (!good.ok()) return swaps_->Refuse(std::move(good), std::move(done));
    RowBlock handed = rows.on_device() ? rows : RoundedCopy(rows.view(), header.wire_dtype);
    absl::MutexLock lock(&send_mutex_);
    if (!swaps_->Begin(header, deadline, std::move(done))) return;
    handler_->HandleSwap(peer_, header, std::move(handed), AnswerTo(header));
  }

  RowMemory* device_memory() const override { return memory_.get(); }

  void ReleaseSequence(uint64_t sequence_id) override {
    absl::MutexLock lock(&send_mutex_);
    if (swaps_->Health().ok()) handler_->HandleRelease(peer_, sequence_id);
  }

  absl::Status Health() const override { return swaps_->Health(); }
  SwapBounds bounds() const override { return {limits_.max_rows}; }
  void Close() override { swaps_->Close("closed"); }
  std::string Name() const override { return "local"; }

 private:
  // What takes the handler's answer. An answer given inside HandleSwap goes to its callback on
  // another thread: callbacks never run inside a call of Swap.
  SwapCallback AnswerTo(const StepHeader& header) const {
    return [swaps = swaps_, step_id = header.step_id, wire = header.wire_dtype,
            sender = std::this_thread::get_id()](absl::StatusOr<SwapResult> result) {
      if (result.ok()) RoundToWire(wire, absl::MakeSpan(result->rows));
      if (std::this_thread::get_id() == sender) {
        return swaps->AnswerLater(step_id, std::move(result));
      }
      const absl::Status status = swaps->Answer(step_id, std::move(result));
      if (!status.ok()) swaps->Close(status.message());
    };
  }

  SwapHandler* const handler_;
  const StepLimits limits_;
  const std::shared_ptr<RowMemory> memory_;  // null: host rows only
  const uint64_t peer_;
  std::shared_ptr<SwapsInFlight> swaps_;  // shared with answers that outlive the link
  absl::Mutex send_mutex_;                // a swap enters swaps_ and the handler in the same order
};

}  // namespace

std::unique_ptr<ActivationLink> MakeLocalLink(SwapHandler* handler, const LinkOptions& options) {
  return std::make_unique<LocalLink>(handler, options);
}

}  // namespace ccoe::exchange
