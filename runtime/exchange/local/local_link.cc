// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/local/local_link.h"

#include <limits>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "runtime/exchange/link_table.h"
#include "runtime/exchange/row_block.h"

namespace ccoe::exchange {
namespace {

class LocalLink final : public ActivationLink {
 public:
  LocalLink(SwapHandler* handler, const LinkOptions& options)
      : handler_(handler),
        limits_(options.limits),
        memory_(options.memory != nullptr && options.memory->device() == handler->device()
                    ? options.memory
                    : nullptr),
        peer_(handler->AddPeer()) {
    LinkTable::Options table;
    table.link_name = Name();
    table.hidden_size = handler->hidden_size();
    table.limits = limits_;
    table.memory = memory_.get();
    table.capacity = options.capacity;
    table.on_closed = [handler, peer = peer_] { handler->RemovePeer(peer); };
    table_ = std::make_shared<LinkTable>(std::move(table));
  }

  ~LocalLink() override { table_->Stop(); }

  void Send(Envelope envelope, SwapCallback done) override {
    absl::MutexLock lock(&send_mutex_);
    if (!table_->Begin(envelope, std::move(done))) return;
    table_->StartSending(envelope);
    if (envelope.swaps.empty()) return;
    SwapCallback answer = AnswerTo(envelope.swaps.front().header.format.dtype);
    handler_->HandleEnvelope(peer_, std::move(envelope), std::move(answer));
  }

  void CancelSwaps(std::vector<uint64_t> swap_ids) override {
    const std::vector<uint64_t> told = table_->Cancel(swap_ids);
    if (!told.empty()) handler_->HandleCancel(peer_, told);
  }

  void ReleaseSequence(uint64_t sequence_id) override {
    absl::MutexLock lock(&send_mutex_);
    if (table_->healthy()) handler_->HandleRelease(peer_, sequence_id);
  }

  RowMemory* device_memory() const override { return memory_.get(); }
  bool healthy() const override { return table_->healthy(); }
  absl::Status Health() const override { return table_->Health(); }
  std::string WhereIs(uint64_t swap_id) const override {
    // What is sent is taken in at once.
    table_->Heard(handler_->Progress(), std::numeric_limits<uint64_t>::max());
    return table_->WhereIs(swap_id);
  }
  LinkBounds bounds() const override {
    LinkBounds bounds;
    bounds.max_rows = limits_.max_rows;
    bounds.max_swaps = limits_.max_swaps;
    bounds.max_sequences = limits_.max_sequences;
    return bounds;
  }
  LinkPeer peer() const override { return {"local", handler_->numerics(), "", 0}; }
  void Close() override { table_->Close("closed"); }
  std::string Name() const override { return "local"; }

 private:
  // What takes the handler's answers. One given inside HandleEnvelope goes to its callback on
  // another thread: callbacks never run inside a call of Send.
  SwapCallback AnswerTo(kernels::DType wire) const {
    return [table = table_, wire, sender = std::this_thread::get_id()](
               uint64_t swap_id, absl::StatusOr<SwapResult> result) {
      if (result.ok()) RoundToWire(wire, absl::MakeSpan(result->rows));
      if (std::this_thread::get_id() == sender) {
        return table->AnswerLater(swap_id, std::move(result));
      }
      const absl::Status status = table->Answer(swap_id, std::move(result));
      if (!status.ok()) table->Close(status.message());
    };
  }

  SwapHandler* const handler_;
  const EnvelopeLimits limits_;
  const std::shared_ptr<RowMemory> memory_;  // null: host rows only
  const uint64_t peer_;
  std::shared_ptr<LinkTable> table_;  // shared with answers that outlive the link
  absl::Mutex send_mutex_;            // a swap enters the table and the handler in the same order
};

}  // namespace

std::unique_ptr<ActivationLink> MakeLocalLink(SwapHandler* handler, const LinkOptions& options) {
  return std::make_unique<LocalLink>(handler, options);
}

}  // namespace ccoe::exchange
