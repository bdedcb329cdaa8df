// One pass of an expert's layers over the merged rows of several swaps.
#ifndef CCOE_RUNTIME_EXPERTS_EXPERT_PASS_H_
#define CCOE_RUNTIME_EXPERTS_EXPERT_PASS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/experts/swap_queue.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"

namespace ccoe::experts {

// Owns the ops and the memory of a pass, kept between passes. Not thread-safe.
class ExpertPass {
 public:
  ExpertPass(int64_t hidden_size, std::unique_ptr<kernels::Ops> ops);

  // Results of `swaps`, in their order: on the device, in the wire dtype, where a swap's rows were,
  // else in host memory. `batch` holds their sequences, one after another, with block tables into
  // `storage`. A swap with capture_layers stands alone.
  absl::StatusOr<std::vector<exchange::SwapResult>> Run(const model::Decoder& decoder,
                                                        const model::KvStorage& storage,
                                                        absl::Span<const WaitingSwap> swaps,
                                                        const model::RowBatch& batch);

  kernels::Device& device() const { return ops_->device(); }

 private:
  absl::Status RunSwaps(const model::Decoder& decoder, const model::KvStorage& storage,
                        absl::Span<const WaitingSwap> swaps, const model::RowBatch& batch,
                        std::vector<exchange::SwapResult>& results);
  // Brings the rows into hidden_.
  absl::Status TakeIn(absl::Span<const WaitingSwap> swaps, int64_t rows);
  absl::Status Compute(const model::Decoder& decoder, const model::KvStorage& storage,
                       const model::RowBatch& batch, std::vector<float>* captured);
  // Copies the rows of `swap`, whose first one is `row`, that go back. GiveOnDevice does not wait;
  // false: there is no room for them there.
  absl::Status Give(const WaitingSwap& swap, int64_t row, exchange::SwapResult& result);
  bool GiveOnDevice(const WaitingSwap& swap, int64_t row, exchange::SwapResult& result);
  absl::Status Download(const exchange::StepHeader& header, int64_t row, std::vector<float>& rows);
  float* Row(int64_t row) const { return hidden_.f32() + row * hidden_size_; }

  const int64_t hidden_size_;
  const std::unique_ptr<kernels::Ops> ops_;
  model::DecoderScratch scratch_;
  kernels::Buffer hidden_;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_EXPERT_PASS_H_
