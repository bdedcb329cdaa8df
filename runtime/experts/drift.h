// How far one checkpoint's tensors lie from another's.
#ifndef CCOE_RUNTIME_EXPERTS_DRIFT_H_
#define CCOE_RUNTIME_EXPERTS_DRIFT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::experts {

// How far one part of the tuned checkpoint moved away from the base: where it is shared, what
// serving the bundle ignores.
struct Drift {
  std::string part;        // "embedding", "layer 3", "final norm", "head"
  double relative = 0.0;   // |tuned - base| / |base|, Frobenius over the part's tensors
  double max_abs = 0.0;    // largest difference of one element
  bool in_bundle = false;  // the part travels in the bundle
};

// Embedding, every layer, final norm and (unless tied) head, in this order; in_bundle is the
// caller's. Errors name folder and tensor: one that only one side has, or that differs in shape.
// Reads every tensor of both checkpoints once.
absl::StatusOr<std::vector<Drift>> MeasureDrift(const model::ModelSpec& spec,
                                                const model::Weights& base,
                                                const model::Weights& tuned);

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_DRIFT_H_
