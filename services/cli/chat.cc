#include "services/cli/chat.h"

#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "services/cli/client.h"
#include "services/cli/output.h"

namespace ccoe::cli {
namespace {

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

  // False when the user leaves.
  bool Take(const std::string& line) {
    if (line == "/quit" || line == "/exit") return false;
    if (line == "/new") {
      Reset();
    } else if (line == "/help") {
      std::cout << kHelp;
    } else if (line.rfind("/expert", 0) == 0) {
      expert_ = std::string(absl::StripAsciiWhitespace(line.substr(7)));
    } else if (!line.empty()) {
      Ask(line);
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

  void Ask(const std::string& question) {
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
      std::cout << "error: " << answer.status().message() << "\n";
      chat_.mutable_messages()->RemoveLast();
    }
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
    if (!std::getline(std::cin, line) ||
        !conversation.Take(std::string(absl::StripAsciiWhitespace(line))))
      break;
    CCOE_RETURN_IF_ERROR(FlushStandardOutput());
  }
  return absl::OkStatus();
}

}  // namespace

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

}  // namespace ccoe::cli
