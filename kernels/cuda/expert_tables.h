// The experts of MoE layers as the kernels take them, sent to the device once a layer: a captured
// step then need not send them again.
#ifndef CCOE_KERNELS_CUDA_EXPERT_TABLES_H_
#define CCOE_KERNELS_CUDA_EXPERT_TABLES_H_

#include <cstddef>
#include <unordered_map>
#include <vector>

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

// Not thread-safe. About 300 bytes of device memory an expert and layer; past kMaxTables layers
// all are dropped and made again as they are asked for.
//
// A table is known by its first expert's gate and good for exactly the matrices it was made of, so
// that memory which was freed and used again for other weights does no harm. Within a captured or
// replayed step no table that others of the step may use is freed.
class ExpertTables {
 public:
  static constexpr size_t kMaxTables = 1024;

  // `stream` must outlive this.
  explicit ExpertTables(Stream* stream) : stream_(stream) {}
  ~ExpertTables();
  ExpertTables(const ExpertTables&) = delete;
  ExpertTables& operator=(const ExpertTables&) = delete;

  // The table of a layer's experts, good until the next call. Null after an error, which sticks in
  // the stream; FAILED_PRECONDITION for a new layer while a step is captured (which is then run
  // plainly).
  const ExpertTable* Find(absl::Span<const ExpertMatrices> experts);

 private:
  struct Entry {
    std::vector<ExpertMatrices> experts;
    char* memory = nullptr;
    ExpertTable table;
  };

  absl::StatusOr<Entry> Make(absl::Span<const ExpertMatrices> experts);
  absl::Status MakeRoom();
  absl::Status FreeRetired();

  Stream* const stream_;
  std::unordered_map<const void*, Entry> tables_;
  std::vector<char*> retired_;  // no table's any more; ops or a step under way may still read them
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_EXPERT_TABLES_H_
