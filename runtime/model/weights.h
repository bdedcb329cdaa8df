// Named tensors of a checkpoint folder: one safetensors file, or several with
// model.safetensors.index.json.
#ifndef CCOE_RUNTIME_MODEL_WEIGHTS_H_
#define CCOE_RUNTIME_MODEL_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/view.h"
#include "runtime/model/safetensors.h"

namespace ccoe::model {

// Memory-mapped, read-only, thread-safe. Views stay valid as long as the Weights live.
class Weights {
 public:
  // Maps the files' headers; tensor data is paged in when first read. Errors name the file
  // (missing, truncated, corrupt header, an index that names a tensor its shard does not hold, a
  // tensor held twice).
  static absl::StatusOr<std::shared_ptr<const Weights>> Open(const std::string& folder);

  bool Has(absl::string_view name) const;

  // The tensor of shape [rows, cols], or [size] as a matrix of one row. NOT_FOUND or
  // INVALID_ARGUMENT name the tensor, what was expected and what was found. dtype f32, f16 or bf16.
  absl::StatusOr<kernels::ConstMatrix> Matrix(absl::string_view name, int64_t rows,
                                              int64_t cols) const;
  absl::StatusOr<kernels::ConstMatrix> Vector(absl::string_view name, int64_t size) const;

  // Any tensor as stored. NOT_FOUND names it.
  absl::StatusOr<TensorView> Raw(absl::string_view name) const;

  // All names, sorted.
  std::vector<std::string> Names() const;

  const std::string& folder() const { return folder_; }

 private:
  Weights() = default;

  absl::Status AddFile(const std::string& path);
  absl::StatusOr<kernels::ConstMatrix> Checked(absl::string_view name,
                                               const std::vector<int64_t>& shape) const;

  std::string folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  absl::flat_hash_map<std::string, TensorView> tensors_;
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_WEIGHTS_H_
