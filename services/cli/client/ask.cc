// SPDX-License-Identifier: Apache-2.0
// The commands that ask a running cluster a few questions: `ccoe ask` (test questions one by one,
// each answer as it streams with the expert, the reason, and whether it is right), `ccoe chat` (a
// conversation on the terminal), `ccoe route` (where a question would go, and why).
#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "runtime/base/status_macros.h"
#include "services/cli/client/client.h"
#include "services/cli/client/questions.h"
#include "services/cli/commands.h"
#include "services/cli/output.h"

namespace ccoe::cli {
namespace {

// `ccoe ask`.

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

// `ccoe chat`.

constexpr char kHelp[] =
    "/expert NAME  ask this expert (base: none; no name: the router chooses)\n"
    "/new          forget the conversation\n"
    "/quit         leave (or end of input)\n";

struct ChatFlags {
  ClientFlags client;
  SamplingFlags sampling;
  MoeFlags moe;
  std::string expert;
  std::string system;
  bool single_turn = false;
};

// The conversation so far, and what the user set.
class Conversation {
 public:
  // `common` is what every request has in common.
  Conversation(const Client* client, const ChatFlags* flags, v1::GenerateRequest common)
      : client_(client), flags_(flags), common_(std::move(common)), expert_(flags->expert) {
    Reset();
  }

  // False when the user leaves. The error of a question that was not answered; the conversation may
  // go on without it.
  absl::StatusOr<bool> Take(const std::string& line) {
    if (line == "/quit" || line == "/exit") return false;
    if (line == "/new") {
      Reset();
    } else if (line == "/help") {
      std::cout << kHelp;
    } else if (line.rfind("/expert", 0) == 0) {
      expert_ = std::string(absl::StripAsciiWhitespace(line.substr(7)));
    } else if (!line.empty()) {
      CCOE_RETURN_IF_ERROR(Ask(line));
    }
    return true;
  }

 private:
  void Reset() {
    chat_.Clear();
    if (!flags_->system.empty()) Add("system", flags_->system);
  }

  void Add(const std::string& role, const std::string& content) {
    v1::ChatMessage* message = chat_.add_messages();
    message->set_role(role);
    message->set_content(content);
  }

  absl::Status Ask(const std::string& question) {
    if (flags_->single_turn) Reset();
    Add("user", question);
    v1::GenerateRequest request = common_;
    *request.mutable_chat() = chat_;
    request.set_expert(expert_);
    const auto started = [](const v1::Started& s) {
      std::cout << "[" << DecisionName(s.decision()) << ": " << s.decision().explanation() << "]\n"
                << std::flush;
    };
    const auto answer = client_->Generate(
        request, started, [](const std::string& text) { std::cout << text << std::flush; });
    std::cout << "\n";
    if (answer.ok()) {
      Add("assistant", answer->text);
    } else {
      chat_.mutable_messages()->RemoveLast();
    }
    return answer.status();
  }

  const Client* const client_;
  const ChatFlags* const flags_;
  const v1::GenerateRequest common_;
  std::string expert_;
  v1::Chat chat_;
};

absl::Status Chat(const ChatFlags& flags) {
  v1::GenerateRequest common;
  ToProto(flags.sampling, common.mutable_sampling());
  CCOE_RETURN_IF_ERROR(SetMoe(flags.moe, common));
  CCOE_ASSIGN_OR_RETURN(const auto client, Client::Create(flags.client));
  CCOE_RETURN_IF_ERROR(
      client->ListExperts()
          .status());  // a server that is not there shows before the first question
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal) std::cout << "Talking to " << client->server() << ". /help lists the commands.\n";
  Conversation conversation(client.get(), &flags, std::move(common));
  std::string line;
  while (true) {
    if (terminal) std::cout << "> " << std::flush;
    if (!std::getline(std::cin, line)) return absl::OkStatus();
    const absl::StatusOr<bool> stays =
        conversation.Take(std::string(absl::StripAsciiWhitespace(line)));
    CCOE_RETURN_IF_ERROR(FlushStandardOutput());
    // A person sees the error and asks again; a script gets it as the exit code.
    if (!stays.ok() && !terminal) return stays.status();
    if (!stays.ok()) std::cerr << "error: " << stays.status().message() << "\n";
    if (stays.ok() && !*stays) return absl::OkStatus();
  }
}

// `ccoe route`.

struct RouteFlags {
  ClientFlags client;
  std::string text;
  std::string expert;
  std::string tenant;
  bool json = false;
};

const char* ReasonName(v1::RouteReason reason) {
  switch (reason) {
    case v1::ROUTE_REASON_EXPLICIT:
      return "explicit";
    case v1::ROUTE_REASON_RULE:
      return "rule";
    case v1::ROUTE_REASON_DEFAULT:
      return "default";
    default:
      return "unknown";
  }
}

absl::Status Route(const RouteFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto client, Client::Create(flags.client));
  v1::RouteTextRequest request;
  request.set_text(flags.text);
  request.set_expert(flags.expert);
  request.set_tenant(flags.tenant);
  CCOE_ASSIGN_OR_RETURN(const v1::Decision decision, client->Route(request));
  if (!flags.json) {
    std::cout << DecisionName(decision) << ": " << decision.explanation() << "\n";
    return absl::OkStatus();
  }
  const nlohmann::json line = {{"expert", DecisionName(decision)},
                               {"reason", ReasonName(decision.reason())},
                               {"rule", decision.rule()},
                               {"explanation", decision.explanation()}};
  std::cout << line.dump() << "\n";
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

void RegisterChat(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* command = AddCommand(app, context, "chat", "Talks to a running cluster, interactively.",
                                 [flags] { return Chat(*flags); });
  AddClientFlags(command, flags->client);
  AddSamplingFlags(command, flags->sampling);
  AddMoeFlags(command, flags->moe);
  AddFlag(command, "--expert", flags->expert,
          "Always this expert: NAME, NAME@VERSION or base; default: the router chooses.");
  AddFlag(command, "--system", flags->system, "System message that opens the conversation.");
  AddSwitch(command, "--single-turn", flags->single_turn,
            "Each question stands alone, without what was said before.");
}

void RegisterRoute(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<RouteFlags>();
  CLI::App* command = AddCommand(app, context, "route", "Says where a question would go, and why.",
                                 [flags] { return Route(*flags); });
  AddPositional(command, "text", flags->text, "The question.").Required();
  AddClientFlags(command, flags->client);
  AddFlag(command, "--expert", flags->expert,
          "As a client would name it: NAME, NAME@VERSION or base.");
  AddFlag(command, "--tenant", flags->tenant, "Tenant, for rules that ask for one.");
  AddSwitch(command, "--json", flags->json, "Print JSON.");
}

}  // namespace ccoe::cli
