// The experts that the rows of a pass chose, kept on the device until the pass is over: nobody has
// to wait for them on the way.
#ifndef CCOE_RUNTIME_MODEL_MOE_CHOICES_H_
#define CCOE_RUNTIME_MODEL_MOE_CHOICES_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// One choice a MoE layer: that of the rows that went through it last. Not thread-safe.
class MoeChoices {
 public:
  explicit MoeChoices(kernels::Device* device) : device_(device) {}

  // Makes room for `rows` rows at each MoE layer of `layers`. What is kept stays where the layers
  // are those of the call before and the rows no more (a pass that went on with some of its rows);
  // else it is dropped. RESOURCE_EXHAUSTED from the device.
  absl::Status Begin(const ModelSpec& spec, LayerRange layers, int64_t rows);

  // Device memory [rows, top_k] for the choice of rows at MoE layer `layer`, both within what Begin
  // made room for; it is kept from now on.
  int32_t* Keep(int32_t layer, int64_t rows);

  // Nothing is kept.
  bool empty() const { return kept_ == 0; }
  // Where choices lie depends on this, beside the layers.
  int64_t rows_apart() const { return rows_; }

  // As RoutedRows has them: row r chose experts[offsets[r] .. offsets[r + 1]), rising.
  using Visitor = absl::FunctionRef<void(int32_t layer, absl::Span<const int32_t> offsets,
                                         absl::Span<const int32_t> experts)>;
  // Hands over what is kept, layer by layer, and keeps nothing then. The ops that wrote it have
  // been waited for. Errors are the device's.
  absl::Status Take(Visitor visitor);
  void Drop();

 private:
  struct Plane {
    int64_t top_k = 0;  // 0: a dense layer
    int64_t begin = 0;  // the sum of top_k of the layers before
    int64_t rows = 0;   // kept; 0: none
  };
  bool Fits(const ModelSpec& spec, LayerRange layers) const;

  kernels::Device* const device_;
  kernels::Buffer buffer_;
  LayerRange layers_;
  std::vector<Plane> planes_;  // of layers_
  int64_t top_k_sum_ = 0;
  int64_t rows_ = 0;  // between the planes
  int kept_ = 0;      // planes
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_MOE_CHOICES_H_
