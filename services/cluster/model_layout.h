// What a model folder holds: a checkpoint, or a base with its experts and rules.
#ifndef CCOE_SERVICES_CLUSTER_MODEL_LAYOUT_H_
#define CCOE_SERVICES_CLUSTER_MODEL_LAYOUT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ccoe::services {

struct ModelLayout {
  std::string base_folder;
  std::vector<std::string> bundle_folders;  // may be empty
  std::string rules_file;                   // empty: no rules
};

// FOLDER/base, FOLDER/experts/*, FOLDER/routing.textproto where FOLDER/base is a folder (as in
// models/demo), else FOLDER itself is the base. `experts_folder` and `rules_file` take their places
// where they are not empty. NOT_FOUND names what is missing.
absl::StatusOr<ModelLayout> FindModel(const std::string& folder, const std::string& experts_folder,
                                      const std::string& rules_file);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_CLUSTER_MODEL_LAYOUT_H_
