// SPDX-License-Identifier: Apache-2.0
// The `ccoe` binary: the table of its subcommands, nothing else.
#include "absl/synchronization/mutex.h"
#include "services/cli/commands.h"

int main(int argc, char** argv) {
  // Debian's abseil looks for deadlocks at each lock, ours and gRPC's, under one lock of its own.
  // Tests keep that.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  static constexpr ccoe::cli::RegisterFunction kCommands[] = {
      ccoe::cli::RegisterUp,       ccoe::cli::RegisterRouter,    ccoe::cli::RegisterGateway,
      ccoe::cli::RegisterBackbone, ccoe::cli::RegisterExpert,    ccoe::cli::RegisterGenerate,
      ccoe::cli::RegisterChat,     ccoe::cli::RegisterAsk,       ccoe::cli::RegisterRoute,
      ccoe::cli::RegisterStatus,   ccoe::cli::RegisterEval,      ccoe::cli::RegisterScore,
      ccoe::cli::RegisterTokenize, ccoe::cli::RegisterBench,     ccoe::cli::RegisterExperts,
      ccoe::cli::RegisterMoe,      ccoe::cli::RegisterPlacement,
  };
  return ccoe::cli::RunCommandLine(argc, argv, kCommands);
}
