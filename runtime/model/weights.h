// SPDX-License-Identifier: Apache-2.0
// Named tensors of a checkpoint folder: one safetensors file, or several with
// model.safetensors.index.json; in the mapped files, or each brought to a device's memory once.
#ifndef CCOE_RUNTIME_MODEL_WEIGHTS_H_
#define CCOE_RUNTIME_MODEL_WEIGHTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/view.h"
#include "runtime/model/safetensors.h"

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

// Tensors in a device's memory. Thread-safe: uploads take turns, each large one cut over several
// threads so that files are read while others are on their way.
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

// Memory-mapped, read-only, thread-safe. Views stay valid as long as the Weights live.
//
// Matrix, Vector and Computed give what ops read: views into the mapped files or, of Weights made
// by On, memory of a device that a tensor goes to when it is first asked for. So what is uploaded
// is what is bound. MappedMatrix and Raw are host memory always.
class Weights {
 public:
  // Maps the files' headers; tensor data is paged in when first read. Errors name the file
  // (missing, truncated, corrupt header, an index that names a tensor its shard does not hold, a
  // tensor held twice).
  static absl::StatusOr<std::shared_ptr<const Weights>> Open(const std::string& folder);

  // Tensors in memory that outlives the weights, for measurements; views without data where nothing
  // reads them (WeightTarget::fill).
  static std::shared_ptr<const Weights> Of(const std::map<std::string, TensorView>& tensors);

  // The same tensors for ops on the target's device; `weights` itself where that reads host memory.
  // Two calls give two sets of uploads.
  static std::shared_ptr<const Weights> On(std::shared_ptr<const Weights> weights,
                                           const WeightTarget& target);

  bool Has(absl::string_view name) const;

  // The tensor of shape [rows, cols], or [size] as a matrix of one row. NOT_FOUND or
  // INVALID_ARGUMENT name the tensor, what was expected and what was found; RESOURCE_EXHAUSTED
  // comes from the device. dtype f32, f16 or bf16.
  absl::StatusOr<kernels::ConstMatrix> Matrix(absl::string_view name, int64_t rows,
                                              int64_t cols) const;
  absl::StatusOr<kernels::ConstMatrix> Vector(absl::string_view name, int64_t size) const;

  // As Matrix, as stored in host memory.
  absl::StatusOr<kernels::ConstMatrix> MappedMatrix(absl::string_view name, int64_t rows,
                                                    int64_t cols) const;

  // A matrix that is made from tensors once, by `make`, which fills [rows, cols] of `dtype`,
  // contiguous. `name` must be none of a tensor's and say what is made of what.
  absl::StatusOr<kernels::ConstMatrix> Computed(absl::string_view name, kernels::DType dtype,
                                                int64_t rows, int64_t cols,
                                                DeviceTensors::Maker make) const
      ABSL_LOCKS_EXCLUDED(computed_mutex_);

  // What lies in a device's memory; 0 where mapped files are read in place.
  int64_t device_bytes() const { return device_ == nullptr ? 0 : device_->size_bytes(); }

  // Any tensor as stored. NOT_FOUND names it.
  absl::StatusOr<TensorView> Raw(absl::string_view name) const;

  // All names, sorted.
  std::vector<std::string> Names() const;

  const std::string& folder() const { return folder_; }
  const std::vector<std::shared_ptr<const SafetensorsFile>>& files() const { return files_; }

 private:
  Weights() = default;

  absl::Status AddFile(const std::string& path);
  absl::StatusOr<kernels::ConstMatrix> Checked(absl::string_view name,
                                               const std::vector<int64_t>& shape) const;

  std::string folder_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  absl::flat_hash_map<std::string, TensorView> tensors_;
  std::unique_ptr<DeviceTensors> device_;  // null: read in place
  mutable absl::Mutex computed_mutex_;
  mutable absl::flat_hash_map<std::string, std::unique_ptr<uint32_t[]>> computed_
      ABSL_GUARDED_BY(computed_mutex_);
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_WEIGHTS_H_
