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
#include "runtime/experts/swap_target.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/model_spec.h"

namespace ccoe::experts {

// Owns the ops and the memory of a pass. Not thread-safe.
class ExpertPass {
 public:
  // Takes the memory for `max_rows` rows through any layers of the model: larger passes are
  // computed piece by piece. RESOURCE_EXHAUSTED from the device.
  static absl::StatusOr<std::unique_ptr<ExpertPass>> Create(const model::ModelSpec& spec,
                                                            int64_t max_rows,
                                                            std::unique_ptr<kernels::Ops> ops);

  // Results of `swaps`, in their order: on the device, in the wire dtype, where a swap's rows were,
  // else in host memory. `batch` holds their sequences, one after another, with block tables into
  // `storage`. A swap with capture_layers stands alone.
  absl::StatusOr<std::vector<exchange::SwapResult>> Run(const model::Decoder& decoder,
                                                        const model::KvStorage& storage,
                                                        absl::Span<const WaitingSwap> swaps,
                                                        const model::RowBatch& batch);

  kernels::Device& device() const { return ops_->device(); }

 private:
  // Rows [begin, end) of a pass.
  struct Piece {
    int64_t begin = 0, end = 0;
  };
  // Where layers' outputs go, [layers, all rows, hidden_size]; null: nowhere.
  struct Capture {
    float* values = nullptr;  // of the piece's first row
    int64_t layer_values = 0;
  };

  ExpertPass(int64_t hidden_size, int64_t max_rows, std::unique_ptr<kernels::Ops> ops);
  static model::RowBatch Cut(const model::RowBatch& batch, const Piece& piece);
  absl::Status RunSwaps(const model::Decoder& decoder, const model::KvStorage& storage,
                        absl::Span<const WaitingSwap> swaps, const model::RowBatch& batch,
                        std::vector<SwapTarget>& targets);
  // Brings the piece's rows into hidden_.
  absl::Status TakeIn(absl::Span<const WaitingSwap> swaps, const Piece& piece);
  absl::Status Compute(const model::Decoder& decoder, const model::KvStorage& storage,
                       const model::RowBatch& batch, const Capture& capture);
  // Copies those of the piece's rows that go back; does not wait for those on the device.
  absl::Status Give(absl::Span<const WaitingSwap> swaps, const Piece& piece,
                    std::vector<SwapTarget>& targets);
  absl::Status GiveRows(int64_t row, int64_t count, int64_t place, SwapTarget& target);
  // Of the piece that is computed.
  float* Row(int64_t row) const { return hidden_.f32() + row * hidden_size_; }

  const int64_t hidden_size_;
  const int64_t max_rows_;
  const std::unique_ptr<kernels::Ops> ops_;
  model::DecoderScratch scratch_;
  kernels::Buffer hidden_;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_EXPERT_PASS_H_
