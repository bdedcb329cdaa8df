// `ccoe generate --offline`: the engine in this process, no cluster.
#ifndef CCOE_SERVICES_CLI_GENERATE_OFFLINE_H_
#define CCOE_SERVICES_CLI_GENERATE_OFFLINE_H_

#include "absl/status/status.h"
#include "services/cli/generate_flags.h"

namespace ccoe::cli {

// Prints an answer per request to standard output, in the requests' order.
absl::Status GenerateOffline(const GenerateFlags& flags);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_GENERATE_OFFLINE_H_
