#include "services/expert/held_bundles.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/weights.h"
#include "services/backbone/load_backbone.h"
#include "services/backbone/wire.h"

namespace ccoe::services {
namespace {

bool IsBundle(const std::string& folder) { return FileExists(folder + "/expert.json"); }

bool HasWeights(const std::string& folder) {
  return FileExists(folder + "/model.safetensors") ||
         FileExists(folder + "/model.safetensors.index.json");
}

}  // namespace

absl::StatusOr<std::vector<std::string>> FindBundles(const std::string& folder) {
  if (IsBundle(folder)) return std::vector<std::string>{folder};
  std::vector<std::string> bundles;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (IsBundle(it->path().string())) bundles.push_back(it->path().string());
  }
  if (error) return absl::NotFoundError(absl::StrCat(folder, ": ", error.message()));
  if (bundles.empty()) {
    return absl::NotFoundError(
        absl::StrCat(folder, ": expected expert bundles (folders with expert.json), found none"));
  }
  std::sort(bundles.begin(), bundles.end());
  return bundles;
}

absl::Status OpenBundles(const model::ModelSpec& spec, const std::string& base_folder,
                         const std::vector<std::string>& bundle_folders,
                         const std::function<absl::Status(const experts::Bundle&)>& use) {
  std::shared_ptr<const model::Weights> base;
  std::optional<BaseFingerprints> fingerprints;
  if (HasWeights(base_folder)) {
    CCOE_ASSIGN_OR_RETURN(base, model::Weights::Open(base_folder));
    fingerprints.emplace(&spec, base.get());
  }
  for (const std::string& folder : bundle_folders) {
    CCOE_ASSIGN_OR_RETURN(const experts::BundleManifest manifest, experts::ReadManifest(folder));
    std::string fingerprint = manifest.base_fingerprint;
    if (fingerprints.has_value() && manifest.layers.first < spec.layer_count()) {
      CCOE_ASSIGN_OR_RETURN(fingerprint, fingerprints->Below(manifest.layers.first));
    }
    CCOE_ASSIGN_OR_RETURN(const experts::Bundle bundle,
                          experts::OpenBundle(folder, spec, fingerprint));
    CCOE_RETURN_IF_ERROR(Annotate(use(bundle), folder));
  }
  return absl::OkStatus();
}

v1::HeldExpert HeldExpertOf(const experts::BundleManifest& manifest, int64_t weight_bytes) {
  v1::HeldExpert held;
  v1::ExpertInfo* info = held.mutable_info();
  *info->mutable_expert() = ExpertToProto(manifest.expert);
  info->set_domain(manifest.domain);
  info->set_description(manifest.description);
  info->set_first_layer(manifest.layers.first);
  info->set_last_layer(manifest.layers.last);
  info->set_weight_bytes(weight_bytes);
  for (const std::string& query : manifest.example_queries) info->add_example_queries(query);
  info->set_owns_head(manifest.owns_norm || manifest.owns_head);
  held.set_base_fingerprint(manifest.base_fingerprint);
  held.set_weights_digest(manifest.weights_sha256);
  return held;
}

}  // namespace ccoe::services
