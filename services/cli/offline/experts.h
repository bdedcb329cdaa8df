// SPDX-License-Identifier: Apache-2.0
// `ccoe experts ...`: work on expert bundles.
#ifndef CCOE_SERVICES_CLI_OFFLINE_EXPERTS_H_
#define CCOE_SERVICES_CLI_OFFLINE_EXPERTS_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/model/model_spec.h"

namespace ccoe::cli {

// "4:8" to layers [4, 8). INVALID_ARGUMENT says the form.
absl::StatusOr<model::LayerRange> ParseLayers(absl::string_view text);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_OFFLINE_EXPERTS_H_
