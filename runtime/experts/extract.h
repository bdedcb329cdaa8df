// Cuts an expert bundle out of a full fine-tuned checkpoint.
#ifndef CCOE_RUNTIME_EXPERTS_EXTRACT_H_
#define CCOE_RUNTIME_EXPERTS_EXTRACT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/experts/bundle.h"
#include "runtime/experts/drift.h"
#include "runtime/model/model_spec.h"

namespace ccoe::experts {

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
