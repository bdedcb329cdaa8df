// SPDX-License-Identifier: Apache-2.0
// The experts of MoE layers as the kernels take them, sent to the device once a layer: a captured
// step then need not send them again.
#ifndef CCOE_KERNELS_CUDA_EXPERT_TABLES_H_
#define CCOE_KERNELS_CUDA_EXPERT_TABLES_H_

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/grouped_ffn.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/stream.h"
#include "kernels/moe.h"

namespace ccoe::kernels {

// Device memory, by expert; see SetExpertParts.
struct ExpertTable {
  const MatmulPart *gated = nullptr, *up = nullptr, *down = nullptr;
  FastExperts fast;
};

// Not thread-safe. All memory is taken at the start; where it is full, every table is dropped and
// made again as it is asked for.
//
// A table is known by its first expert's gate and good for exactly the matrices it was made of, so
// that memory which was freed and used again for other weights does no harm.
class ExpertTables {
 public:
  // 264 bytes an expert of a layer: 60 layers of 1,000.
  static constexpr int64_t kBytes = int64_t{16} << 20;

  // `stream` must outlive this. RESOURCE_EXHAUSTED from the device.
  static absl::StatusOr<std::unique_ptr<ExpertTables>> Create(Stream* stream,
                                                              int64_t bytes = kBytes);
  ~ExpertTables();

  // The table of a layer's experts, good until the next call. Null after an error, which sticks in
  // the stream: RESOURCE_EXHAUSTED for a layer that does not fit at all; FAILED_PRECONDITION for a
  // new one while a step is captured (which is then run plainly).
  const ExpertTable* Find(absl::Span<const ExpertMatrices> experts);

 private:
  struct Entry {
    std::vector<ExpertMatrices> experts;
    ExpertTable table;
  };

  ExpertTables(Stream* stream, int64_t bytes) : stream_(stream), bytes_(bytes) {}
  absl::StatusOr<Entry> Make(absl::Span<const ExpertMatrices> experts);
  absl::StatusOr<char*> Take(int64_t bytes);

  Stream* const stream_;
  const int64_t bytes_;
  char* memory_ = nullptr;
  int64_t used_ = 0;
  uint64_t generation_ = 0;  // how often all were dropped
  std::unordered_map<const void*, Entry> tables_;
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_EXPERT_TABLES_H_
