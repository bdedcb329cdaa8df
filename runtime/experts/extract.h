// SPDX-License-Identifier: Apache-2.0
// Cuts an expert bundle out of a full fine-tuned checkpoint, and says how far the checkpoint's
// tensors lie from the base's.
#ifndef CCOE_RUNTIME_EXPERTS_EXTRACT_H_
#define CCOE_RUNTIME_EXPERTS_EXTRACT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/experts/bundle.h"
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

struct ExtractOptions {
  std::string base_folder;
  std::string tuned_folder;
  model::LayerRange layers;  // cut out [first, last)
  std::string name;
  int64_t version = 1;
  std::string domain;  // default: the name
  std::string description;
  std::vector<std::string> example_queries;
  std::map<std::string, std::string> training;
  std::string output_folder;  // made; must not hold a bundle already
  bool own_norm = false;      // take the tuned final norm along
  bool own_head = false;      // take the tuned LM head along
};

struct ExtractReport {
  BundleManifest manifest;
  std::vector<Drift> drift;  // embedding, every layer, final norm, head
  int64_t bundle_bytes = 0;
};

// Errors name file and tensor; nothing is left in output_folder on error.
absl::StatusOr<ExtractReport> ExtractExpert(const ExtractOptions& options);

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_EXTRACT_H_
