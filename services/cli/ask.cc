#include "services/cli/ask.h"

#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/status_macros.h"
#include "services/cli/client.h"
#include "services/cli/output.h"
#include "services/cli/test_questions.h"

namespace ccoe::cli {
namespace {

struct AskFlags {
  ClientFlags client;
  std::string questions;
  int64_t limit = 1;
  int64_t max_tokens = 64;
};

struct Tally {
  int asked = 0;
  int right = 0;
  int routed = 0;
};

// Asks through the router, as a client without a preference does.
absl::Status AskOne(const Client& client, const TestQuestion& question, const AskFlags& flags,
                    Tally& tally) {
  v1::GenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(question.question);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_max_tokens(flags.max_tokens);
  std::cout << "[" << question.domain << "] " << question.question << "\n";
  const auto started = [](const v1::Started& s) {
    std::cout << "  -> " << DecisionName(s.decision()) << " (" << s.decision().explanation()
              << ")\n  " << std::flush;
  };
  CCOE_ASSIGN_OR_RETURN(const StreamedAnswer answer,
                        client.Generate(request, started, [](const std::string& text) {
                          std::cout << text << std::flush;
                        }));
  CCOE_ASSIGN_OR_RETURN(const bool right, IsRight(question, answer.text));
  const std::string& expert = answer.finished.decision().expert().name();
  const bool routed = expert == question.domain || (expert.empty() && question.domain == "general");
  std::cout << "\n  " << (right ? "right" : absl::StrCat("wrong, expected: ", question.answer))
            << absl::StrFormat("; first token after %.1f ms, %.0f tokens/s\n\n",
                               absl::ToDoubleMilliseconds(answer.time_to_first_token),
                               answer.TokensPerSecond());
  ++tally.asked;
  tally.right += right;
  tally.routed += routed;
  return FlushStandardOutput();
}

absl::Status Ask(const AskFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto questions,
                        ReadTestQuestions(flags.questions, static_cast<size_t>(flags.limit)));
  CCOE_ASSIGN_OR_RETURN(const auto client, Client::Create(flags.client));
  Tally tally;
  for (const auto& [domain, of_domain] : questions) {
    for (const TestQuestion& question : of_domain)
      CCOE_RETURN_IF_ERROR(AskOne(*client, question, flags, tally));
  }
  std::cout << tally.asked << " asked, " << tally.routed << " went to the right place, "
            << tally.right << " answered rightly\n";
  return absl::OkStatus();
}

}  // namespace

void RegisterAsk(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<AskFlags>();
  CLI::App* command = AddCommand(app, context, "ask",
                                 "Asks test questions one by one and shows how each is answered.",
                                 [flags] { return Ask(*flags); });
  AddClientFlags(command, flags->client);
  AddFlag(command, "--questions", flags->questions, "Folder of DOMAIN.jsonl files.").Required();
  AddFlag(command, "--limit", flags->limit, "Questions of each domain.")
      .Range(int64_t{1}, int64_t{100000});
  AddFlag(command, "--max-tokens", flags->max_tokens, "Longest answer.")
      .Range(int64_t{1}, int64_t{65536});
}

}  // namespace ccoe::cli
