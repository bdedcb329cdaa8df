// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/golden_bundles.h"

#include "runtime/base/status_macros.h"
#include "runtime/experts/extract.h"
#include "tests/testing/golden_model.h"

namespace ccoe::testing {

absl::StatusOr<std::vector<std::string>> ExtractGoldenBundles(
    const std::string& folder, const std::vector<std::string>& names) {
  std::vector<std::string> bundles;
  for (const std::string& name : names) {
    experts::ExtractOptions options;
    options.base_folder = GoldenFolder("ccoe/backbone");
    options.tuned_folder = GoldenFolder("ccoe/" + name);
    options.layers = {4, 8};
    options.name = name;
    options.output_folder = folder + "/" + name;
    CCOE_RETURN_IF_ERROR(experts::ExtractExpert(options).status());
    bundles.push_back(options.output_folder);
  }
  return bundles;
}

}  // namespace ccoe::testing
