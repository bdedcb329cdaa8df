// SPDX-License-Identifier: Apache-2.0
// `ccoe router`, `gateway`, `backbone`, `expert`: one role of a cluster as a process.
#include <malloc.h>

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "runtime/base/status_macros.h"
#include "services/backbone/worker.h"
#include "services/cli/commands.h"
#include "services/cli/flags.h"
#include "services/cli/operate/server_process.h"
#include "services/expert/worker.h"
#include "services/gateway/gateway.h"
#include "services/router/router.h"

namespace ccoe::cli {
namespace {

// Where a role is reached, and where it reaches the router.
struct PlaceFlags {
  std::string listen;
  std::string advertise = {};
  std::string router = "127.0.0.1:8100";
  double register_timeout_seconds = 30;
};

services::ServeOptions ToServeOptions(const PlaceFlags& flags) {
  services::ServeOptions serve;
  serve.listen = {flags.listen};
  serve.advertise = flags.advertise;
  serve.register_timeout = absl::Seconds(flags.register_timeout_seconds);
  return serve;
}

void AddListenFlag(CLI::App* command, std::string& listen) {
  AddFlag(command, "--listen", listen, "Where this role serves gRPC; port 0 takes a free one.");
}

void AddRouterFlag(CLI::App* command, std::string& router) {
  AddFlag(command, "--router", router, "The router's address.");
}

void AddWorkerFlags(CLI::App* command, PlaceFlags& flags) {
  AddListenFlag(command, flags.listen);
  AddFlag(command, "--advertise", flags.advertise,
          "Address that other processes reach this worker at. Default: the one it listens at.");
  AddRouterFlag(command, flags.router);
  AddFlag(command, "--register-timeout", flags.register_timeout_seconds,
          "Seconds to wait for the router at the start.")
      .Positive();
}

// Serves until a signal comes, then drains.
template <typename Role>
absl::Status Serve(ServerProcess& process, const std::string& name, const std::string& address,
                   Role& role, std::function<absl::Status()> health) {
  process.BeginServing(address, std::move(health));
  std::cerr << "ccoe " << name << " serves on " << address << ", /metrics and /healthz on "
            << process.http_address() << std::endl;
  process.WaitForSignal();
  role.Drain(process.drain_timeout());
  return absl::OkStatus();
}

struct RouterFlags {
  PlaceFlags place{"127.0.0.1:8100"};
  std::string rules;
  std::string placement;
  std::string model;
  double lease_seconds = 6;
  ServerFlags server{"127.0.0.1:8102"};
};

absl::Status RunRouter(const RouterFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(auto process, ServerProcess::Create(flags.server, 1));
  services::RouterOptions options;
  options.rules_file = flags.rules;
  options.placement_file = flags.placement;
  options.model_folder = flags.model;
  options.lease = absl::Seconds(flags.lease_seconds);
  options.serve = ToServeOptions(flags.place);
  CCOE_ASSIGN_OR_RETURN(auto router, services::Router::Create(options, process->environment()));
  return Serve(*process, "router", router->address(), *router, [&] { return router->status(); });
}

struct GatewayFlags {
  PlaceFlags place{"127.0.0.1:8001"};
  std::string model;
  int64_t max_queries = 256;
  double longest_query_seconds = 1800;
  ServerFlags server{"127.0.0.1:8002"};
};

absl::Status RunGateway(const GatewayFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(auto process, ServerProcess::Create(flags.server, 1));
  services::GatewayOptions options;
  options.model_folder = flags.model;
  options.router = flags.place.router;
  options.listen = {flags.place.listen};
  options.max_queries = flags.max_queries;
  options.longest_query = absl::Seconds(flags.longest_query_seconds);
  CCOE_ASSIGN_OR_RETURN(auto gateway, services::Gateway::Create(options, process->environment()));
  return Serve(*process, "gateway", gateway->addresses().front(), *gateway,
               [&] { return gateway->ready(); });
}

struct BackboneFlags {
  PlaceFlags place{"127.0.0.1:0"};
  std::string id = "backbone-0";
  std::string model;
  std::vector<std::string> bundles;
  bool without_base_top = false;
  int threads = 0;
  ComputeFlags compute;
  std::string exchange = "auto";
  ServingEngineFlags engine;
  ServerFlags server{"127.0.0.1:0"};
};

absl::Status RunBackbone(const BackboneFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(auto process, ServerProcess::Create(flags.server, flags.threads));
  services::BackboneWorkerOptions options;
  options.worker_id = flags.id;
  options.model_folder = flags.model;
  options.bundle_folders = flags.bundles;
  options.without_base_top = flags.without_base_top;
  options.router = flags.place.router;
  options.serve = ToServeOptions(flags.place);
  options.engine = ToEngineOptions(flags.engine);
  CCOE_ASSIGN_OR_RETURN(options.transport, services::ParseRowTransport(flags.exchange));
  CCOE_ASSIGN_OR_RETURN(const auto compute, services::Compute::Create(
                                                ToComputeOptions(flags.compute), process->team()));
  services::RoleEnvironment environment = process->environment();
  environment.compute = compute.get();
  CCOE_ASSIGN_OR_RETURN(auto worker, services::BackboneWorker::Create(options, environment));
  return Serve(*process, flags.id, worker->address(), *worker, [&] { return worker->status(); });
}

struct ExpertFlags {
  PlaceFlags place{"127.0.0.1:0"};
  std::string id = "expert-0";
  std::string model;
  std::vector<std::string> bundles;
  int threads = 0;
  ComputeFlags compute;
  std::string exchange = "auto";
  int64_t kv_tokens = 65536;
  ServerFlags server{"127.0.0.1:0"};
};

// What an expert worker holds beside its tensors is rows on their way, a few megabytes a swap, on
// many threads. Left to itself malloc keeps the peak of every thread for good; so large blocks go
// back to the system at once, and threads share two arenas.
void KeepHeapSmall() {
  constexpr int kLargeBlock = 1 << 20;
  mallopt(M_MMAP_THRESHOLD, kLargeBlock);
  mallopt(M_TRIM_THRESHOLD, kLargeBlock);
  mallopt(M_ARENA_MAX, 2);
}

absl::Status RunExpert(const ExpertFlags& flags) {
  KeepHeapSmall();
  CCOE_ASSIGN_OR_RETURN(auto process, ServerProcess::Create(flags.server, flags.threads));
  services::ExpertWorkerOptions options;
  options.worker_id = flags.id;
  options.base_folder = flags.model;
  options.bundle_folders = flags.bundles;
  options.router = flags.place.router;
  options.serve = ToServeOptions(flags.place);
  options.host.kv_tokens = flags.kv_tokens;
  CCOE_ASSIGN_OR_RETURN(options.transport, services::ParseRowTransport(flags.exchange));
  CCOE_ASSIGN_OR_RETURN(const auto compute, services::Compute::Create(
                                                ToComputeOptions(flags.compute), process->team()));
  services::RoleEnvironment environment = process->environment();
  environment.compute = compute.get();
  CCOE_ASSIGN_OR_RETURN(auto worker, services::ExpertWorker::Create(options, environment));
  return Serve(*process, flags.id, worker->address(), *worker, [&] { return worker->status(); });
}

void AddRowTransportFlag(CLI::App* command, std::string& exchange) {
  AddFlag(command, "--exchange", exchange,
          "How rows travel between workers: nccl (from GPU to GPU), grpc (in messages), or auto: "
          "nccl where both ends have it.")
      .OneOf({"auto", "grpc", "nccl"});
}

}  // namespace

void RegisterRouter(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<RouterFlags>();
  CLI::App* command =
      AddCommand(app, context, "router", "Runs a cluster's router: who is there, who answers what.",
                 [flags] { return AsServerFailure(RunRouter(*flags)); });
  AddListenFlag(command, flags->place.listen);
  AddFlag(command, "--rules", flags->rules,
          "Routing rules (text form of ccoe.v1.RoutingRules). Default: none.");
  AddFlag(command, "--placement", flags->placement,
          "Which worker holds which FFN experts (text form of ccoe.v1.PlacementPlan). Default: all "
          "are with the backbone workers.");
  AddFlag(command, "--model", flags->model,
          "The model's folder, which the placement is checked against; no weights are needed. "
          "Default: only what needs no model is checked.");
  AddFlag(command, "--lease", flags->lease_seconds,
          "Seconds after which a silent worker is forgotten.")
      .Range(0.1, 600.0);
  AddServerFlags(command, flags->server);
}

void RegisterGateway(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<GatewayFlags>();
  CLI::App* command =
      AddCommand(app, context, "gateway", "Runs a cluster's gateway: what clients talk to.",
                 [flags] { return AsServerFailure(RunGateway(*flags)); });
  AddFlag(command, "--model", flags->model,
          "Folder with the model's tokenizer and config.json; no weights are read.")
      .Required();
  AddListenFlag(command, flags->place.listen);
  AddRouterFlag(command, flags->place.router);
  AddFlag(command, "--max-queries", flags->max_queries, "Queries taken on at once.")
      .Range(1, 65536);
  AddFlag(command, "--longest-query", flags->longest_query_seconds,
          "Seconds that a query may take whose client set no earlier deadline.")
      .Positive();
  AddServerFlags(command, flags->server);
}

void RegisterBackbone(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<BackboneFlags>();
  CLI::App* command = AddCommand(app, context, "backbone",
                                 "Runs a backbone worker: the layers that all experts share.",
                                 [flags] { return AsServerFailure(RunBackbone(*flags)); });
  AddFlag(command, "--id", flags->id, "The worker's name, unique in the cluster.");
  AddFlag(command, "--model", flags->model, "The base model's folder.").Required();
  AddFlag(command, "--bundle", flags->bundles,
          "Bundle of an expert that brings its own norm or head, or for --without-base-top. May be "
          "given several times.");
  AddSwitch(command, "--without-base-top", flags->without_base_top,
            "Hold only the layers below the bundles; then every query needs an expert.");
  AddThreadsFlag(command, flags->threads);
  AddComputeFlags(command, flags->compute);
  AddRowTransportFlag(command, flags->exchange);
  AddServingEngineFlags(command, flags->engine);
  AddWorkerFlags(command, flags->place);
  AddServerFlags(command, flags->server);
}

void RegisterExpert(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<ExpertFlags>();
  CLI::App* command =
      AddCommand(app, context, "expert",
                 "Runs an expert worker: the layers of some experts, and the FFN experts that the "
                 "router's placement assigns to it.",
                 [flags] { return AsServerFailure(RunExpert(*flags)); });
  AddFlag(command, "--id", flags->id, "The worker's name, unique in the cluster.");
  AddFlag(command, "--model", flags->model,
          "The base model's folder: config.json; with its weights the bundles are checked against "
          "them. FFN experts are read from it.")
      .Required();
  AddFlag(command, "--bundle", flags->bundles,
          "Folder of an expert bundle to hold. May be given several times; may be left out for a "
          "model with FFN experts.");
  AddThreadsFlag(command, flags->threads);
  AddComputeFlags(command, flags->compute);
  AddRowTransportFlag(command, flags->exchange);
  AddFlag(command, "--kv-tokens", flags->kv_tokens,
          "Capacity of each expert's KV cache in tokens. Memory is used as it fills.")
      .Positive();
  AddWorkerFlags(command, flags->place);
  AddServerFlags(command, flags->server);
}

}  // namespace ccoe::cli
