// SPDX-License-Identifier: Apache-2.0
// An expert bundle: a folder with expert.json (the manifest) and model.safetensors (the expert's
// layers).
#ifndef CCOE_RUNTIME_EXPERTS_BUNDLE_H_
#define CCOE_RUNTIME_EXPERTS_BUNDLE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/ids.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::experts {

// expert.json.
struct BundleManifest {
  ExpertRef expert;    // name, version >= 1
  std::string domain;  // "math"
  std::string description;
  std::vector<std::string> example_queries;
  model::LayerRange layers;                     // of the base, replaced by the expert's own
  std::string base_fingerprint;                 // Fingerprint() of the base below `layers.first`
  std::string weights_sha256;                   // of model.safetensors
  bool owns_norm = false;                       // the bundle holds the final norm
  bool owns_head = false;                       // the bundle holds the LM head
  std::map<std::string, std::string> training;  // facts: data, steps, date
};

// A checked bundle. Immutable.
struct Bundle {
  std::string folder;
  BundleManifest manifest;
  std::shared_ptr<const model::Weights> weights;
};

// What an expert was trained against: sha256 over the spec's maths and all tensors below layer
// `first` (embedding included), names, shapes, dtypes and bytes. Hashing reads those tensors once.
absl::StatusOr<std::string> Fingerprint(const model::ModelSpec& spec, const model::Weights& base,
                                        int32_t first);

// Reads and checks the manifest alone: names, ranges, digests' form. Reads no weights.
absl::StatusOr<BundleManifest> ReadManifest(const std::string& folder);
absl::Status WriteManifest(const std::string& folder, const BundleManifest& manifest);

// FAILED_PRECONDITION where the bundle was made for another base: says which of fingerprint, layer
// range or shape differs. `base_fingerprint` is Fingerprint(spec, base, manifest.layers.first).
// Reads nothing.
absl::Status CheckFits(const BundleManifest& manifest, const model::ModelSpec& spec,
                       const std::string& base_fingerprint);

// ReadManifest, CheckFits, then the weights: DATA_LOSS for a wrong digest, an error naming the
// tensor for a missing one.
absl::StatusOr<Bundle> OpenBundle(const std::string& folder, const model::ModelSpec& spec,
                                  const std::string& base_fingerprint);

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_BUNDLE_H_
