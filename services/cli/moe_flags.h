// Flags about the gates of mixture-of-experts models: what a request asks, what an operator allows.
#ifndef CCOE_SERVICES_CLI_MOE_FLAGS_H_
#define CCOE_SERVICES_CLI_MOE_FLAGS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/engine/moe_control.h"
#include "services/cli/command.h"

namespace ccoe::cli {

struct MoeFlags {
  std::vector<std::string> active, masked, forced;  // "N" or "LAYER:N", all of them may be repeated
};

// --active-experts, --mask-expert, --force-expert.
void AddMoeFlags(CLI::App* command, MoeFlags& flags);

// Null where no flag was given; a UsageError names the flag.
absl::StatusOr<std::shared_ptr<const engine::MoeControl>> ToMoeControl(const MoeFlags& flags);

struct MoePolicyFlags {
  std::string active_experts;  // "MIN:MAX"; empty: not allowed
  bool allow_masks = false;
  bool allow_forced = false;
};

// --moe-active-experts, --moe-allow-masks, --moe-allow-forced.
void AddMoePolicyFlags(CLI::App* command, MoePolicyFlags& flags);
// Of flags that AddMoePolicyFlags has checked.
engine::MoePolicy ToMoePolicy(const MoePolicyFlags& flags);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_MOE_FLAGS_H_
