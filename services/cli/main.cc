// The `ccoe` binary: the table of its subcommands, nothing else.
#include "services/cli/chat.h"
#include "services/cli/command.h"
#include "services/cli/eval.h"
#include "services/cli/experts.h"
#include "services/cli/generate.h"
#include "services/cli/role.h"
#include "services/cli/route.h"
#include "services/cli/score.h"
#include "services/cli/tokenize.h"
#include "services/cli/up.h"

int main(int argc, char** argv) {
  static constexpr ccoe::cli::RegisterFunction kCommands[] = {
      ccoe::cli::RegisterUp,       ccoe::cli::RegisterRouter,   ccoe::cli::RegisterGateway,
      ccoe::cli::RegisterBackbone, ccoe::cli::RegisterExpert,   ccoe::cli::RegisterGenerate,
      ccoe::cli::RegisterChat,     ccoe::cli::RegisterRoute,    ccoe::cli::RegisterEval,
      ccoe::cli::RegisterScore,    ccoe::cli::RegisterTokenize, ccoe::cli::RegisterExperts,
  };
  return ccoe::cli::RunCommandLine(argc, argv, kCommands);
}
