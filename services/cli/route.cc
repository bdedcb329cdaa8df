#include "services/cli/route.h"

#include <iostream>
#include <memory>
#include <string>

#include "nlohmann/json.hpp"
#include "runtime/base/status_macros.h"
#include "services/cli/client.h"

namespace ccoe::cli {
namespace {

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
