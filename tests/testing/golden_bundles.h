// SPDX-License-Identifier: Apache-2.0
// The golden experts as bundles, cut out of their full checkpoints.
#ifndef CCOE_TESTS_TESTING_GOLDEN_BUNDLES_H_
#define CCOE_TESTS_TESTING_GOLDEN_BUNDLES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ccoe::testing {

// Extracts layers [4, 8) of the experts `names` (of GoldenExperts()) into FOLDER/NAME; the bundles'
// folders.
absl::StatusOr<std::vector<std::string>> ExtractGoldenBundles(
    const std::string& folder, const std::vector<std::string>& names);

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_GOLDEN_BUNDLES_H_
