#include "services/cluster/model_layout.h"

#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "services/expert/held_bundles.h"

namespace ccoe::services {
namespace {

bool IsFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

}  // namespace

absl::StatusOr<ModelLayout> FindModel(const std::string& folder, const std::string& experts_folder,
                                      const std::string& rules_file) {
  if (!IsFolder(folder)) {
    return absl::NotFoundError(absl::StrCat("model: expected a folder, found none at ", folder));
  }
  ModelLayout layout;
  layout.base_folder = folder;
  layout.rules_file = rules_file;
  std::string experts = experts_folder;
  if (IsFolder(folder + "/base")) {
    layout.base_folder = folder + "/base";
    if (experts.empty() && IsFolder(folder + "/experts")) experts = folder + "/experts";
    if (rules_file.empty() && FileExists(folder + "/routing.textproto")) {
      layout.rules_file = folder + "/routing.textproto";
    }
  }
  if (!FileExists(layout.base_folder + "/config.json")) {
    return absl::NotFoundError(absl::StrCat(
        "model: expected config.json, or a folder base with one, found neither in ", folder));
  }
  if (!layout.rules_file.empty() && !FileExists(layout.rules_file)) {
    return absl::NotFoundError(
        absl::StrCat("rules: expected a file, found none at ", layout.rules_file));
  }
  if (!experts.empty()) {
    CCOE_ASSIGN_OR_RETURN(layout.bundle_folders, FindBundles(experts));
  }
  return layout;
}

}  // namespace ccoe::services
