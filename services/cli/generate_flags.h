// The flags of `ccoe generate`.
#ifndef CCOE_SERVICES_CLI_GENERATE_FLAGS_H_
#define CCOE_SERVICES_CLI_GENERATE_FLAGS_H_

#include <string>
#include <vector>

#include "services/cli/client.h"
#include "services/cli/engine_flags.h"
#include "services/cli/moe_flags.h"

namespace ccoe::cli {

struct GenerateFlags {
  bool offline = false;
  EngineFlags engine;  // offline: --expert is a bundle's folder; else an expert's name
  ClientFlags client;
  SamplingFlags sampling;
  MoeFlags moe;
  std::string text;      // the question on the command line
  std::string requests;  // or a file of them
  std::vector<std::string> stop;
  std::string tenant;
  bool raw = false;
  bool json = false;
};

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_GENERATE_FLAGS_H_
