// Tensors in a device's memory, each brought there once.
#ifndef CCOE_RUNTIME_MODEL_DEVICE_TENSORS_H_
#define CCOE_RUNTIME_MODEL_DEVICE_TENSORS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "kernels/device.h"
#include "kernels/view.h"

namespace ccoe::model {

// Where the tensors of a checkpoint are to be read by ops, and as what.
struct WeightTarget {
  // Null, or one that reads host memory: mapped files are read in place. Outlives the tensors.
  kernels::Device* device = nullptr;
  // What matrices are converted to while they are uploaded, f32 or bf16; unset: as stored. Vectors
  // (norms, biases) stay as stored.
  std::optional<kernels::DType> matrices = std::nullopt;
  // False: memory is allocated and nothing is read or copied, which is how a plan of memory counts
  // a model (runtime/model/memory_plan.h).
  bool fill = true;

  bool uploads() const { return device != nullptr && !device->ReadsHostMemory(); }
};

// Thread-safe: uploads take turns, each large one cut over several threads so that files are read
// while others are on their way.
class DeviceTensors {
 public:
  explicit DeviceTensors(const WeightTarget& target) : target_(target) {}

  // `host` [rows, cols] in the device's memory; `is_matrix`: converted as the target says. The
  // second call with a name gives what the first one did. Errors name the tensor, its size and
  // what the device said.
  absl::StatusOr<kernels::ConstMatrix> Upload(absl::string_view name, kernels::ConstMatrix host,
                                              bool is_matrix) ABSL_LOCKS_EXCLUDED(mutex_);

  // The same for a tensor that is computed: `host` has its shape and dtype, no data; `make` fills
  // contiguous memory and is called only where the tensor is not there yet.
  using Maker = absl::FunctionRef<void(void* out)>;
  absl::StatusOr<kernels::ConstMatrix> UploadComputed(absl::string_view name,
                                                      kernels::ConstMatrix host, Maker make)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Allocated so far.
  int64_t size_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Held {
    kernels::Buffer buffer;
    kernels::ConstMatrix view;
  };

  absl::StatusOr<Held> Allocate(absl::string_view name, kernels::ConstMatrix host,
                                kernels::DType dtype) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<kernels::ConstMatrix> Keep(absl::string_view name, Held held)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const WeightTarget target_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Held> held_ ABSL_GUARDED_BY(mutex_);
  int64_t size_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_DEVICE_TENSORS_H_
