// Opens the bundles that a worker shall hold, each checked against the base.
#ifndef CCOE_SERVICES_EXPERT_HELD_BUNDLES_H_
#define CCOE_SERVICES_EXPERT_HELD_BUNDLES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/experts/bundle.h"
#include "runtime/model/model_spec.h"

namespace ccoe::services {

// The folders below `folder` that hold a bundle, sorted by name; `folder` itself where it is one.
// NOT_FOUND where there is none.
absl::StatusOr<std::vector<std::string>> FindBundles(const std::string& folder);

// Opens the bundles one after the other and hands each to `use`. Where `base_folder` has weights,
// each bundle's fingerprint is checked against them, which reads them up to the split once a split;
// without weights the manifest is believed here, and the backbone worker, which has them, compares
// before it sends a row. Errors name the bundle.
absl::Status OpenBundles(const model::ModelSpec& spec, const std::string& base_folder,
                         const std::vector<std::string>& bundle_folders,
                         const std::function<absl::Status(const experts::Bundle&)>& use);

// What a worker reports of a bundle it holds. `weight_bytes` as loaded.
v1::HeldExpert HeldExpertOf(const experts::BundleManifest& manifest, int64_t weight_bytes);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_EXPERT_HELD_BUNDLES_H_
