// SPDX-License-Identifier: Apache-2.0
// `ccoe up`: a whole cluster, in one process or in several on this machine.
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "runtime/base/status_macros.h"
#include "services/cli/commands.h"
#include "services/cli/flags.h"
#include "services/cli/operate/server_process.h"
#include "services/cli/output.h"
#include "services/launcher/embedded_cluster.h"
#include "services/launcher/process_cluster.h"

namespace ccoe::cli {
namespace {

struct UpFlags {
  std::string model;
  std::string experts;
  std::string rules;
  std::string listen = "127.0.0.1:8001";
  bool processes = false;
  bool without_base_top = false;
  int expert_workers = -1;  // by the model
  int backbone_workers = 1;
  int replicas = 1;
  std::string placement;
  std::string exchange = "auto";
  int threads = 0;
  ComputeFlags compute;
  int64_t expert_kv_tokens = 65536;
  int64_t max_queries = 256;
  double start_timeout_seconds = 600;
  ServingEngineFlags engine;
  ServerFlags server;
};

absl::StatusOr<services::ClusterOptions> ToClusterOptions(const UpFlags& flags) {
  services::ClusterOptions options;
  CCOE_ASSIGN_OR_RETURN(options.model,
                        services::FindModel(flags.model, flags.experts, flags.rules));
  if (flags.expert_workers >= 0) options.expert_workers = flags.expert_workers;
  options.backbone_workers = flags.backbone_workers;
  options.ffn_copies = flags.replicas;
  options.placement_file = flags.placement;
  options.listen = flags.listen;
  options.http = flags.server.http;
  options.threads = flags.threads;
  options.compute = ToComputeOptions(flags.compute);
  options.expert_kv_tokens = flags.expert_kv_tokens;
  options.max_queries = flags.max_queries;
  options.without_base_top = flags.without_base_top;
  options.engine = ToEngineOptions(flags.engine);
  options.drain_timeout = absl::Seconds(flags.server.drain_timeout_seconds);
  options.start_timeout = absl::Seconds(flags.start_timeout_seconds);
  return options;
}

void SayReady(const std::string& address, const std::string& http) {
  std::cout << "ccoe is ready: gRPC on " << address << ", /metrics and /healthz on " << http
            << std::endl;
}

absl::Status UpEmbedded(const UpFlags& flags, services::ClusterOptions options) {
  if (flags.exchange == "nccl") {
    return UsageError(
        "--exchange nccl needs --processes: the workers of one process share its memory");
  }
  CCOE_ASSIGN_OR_RETURN(
      const services::ExchangeKind exchange,
      services::ParseExchange(flags.exchange == "auto" ? "local" : flags.exchange));
  CCOE_ASSIGN_OR_RETURN(auto process, ServerProcess::Create(flags.server, flags.threads));
  options.on_progress = process->environment().on_progress;
  CCOE_ASSIGN_OR_RETURN(auto cluster,
                        services::EmbeddedCluster::Create(options, exchange, process->team(),
                                                          process->environment().metrics));
  process->status_line().Show("generating a token with each expert");
  CCOE_RETURN_IF_ERROR(cluster->WaitReady(absl::Now() + options.start_timeout));
  process->BeginServing(cluster->address(), [&cluster] { return cluster->ready(); });
  SayReady(cluster->address(), process->http_address());
  process->WaitForSignal();
  cluster->Drain(process->drain_timeout());
  return absl::OkStatus();
}

absl::Status UpProcesses(const UpFlags& flags, services::ClusterOptions options) {
  std::error_code error;
  if (flags.exchange != "local") {
    CCOE_ASSIGN_OR_RETURN(options.transport, services::ParseRowTransport(flags.exchange));
  }
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return absl::InternalError(absl::StrCat("/proc/self/exe: ", error.message()));
  std::atomic<bool> running = false;
  // While the children start nothing is in flight; they end with this process.
  CCOE_ASSIGN_OR_RETURN(auto signals, services::SignalWatcher::Create([&running](int) {
                          if (!running.load()) _exit(kExitOk);
                        }));
  StatusLine line;
  options.on_progress = [&line](const std::string& what) { line.Show(what); };
  CCOE_ASSIGN_OR_RETURN(auto cluster, services::ProcessCluster::Start(options, program.string()));
  running.store(true);
  line.Clear();
  SayReady(cluster->address(), cluster->http_address());
  const absl::Status watched = cluster->Watch(
      [&signals] { return signals->signalled(); },
      [](const std::string& message) { std::cerr << "ccoe up: " << message << "\n"; });
  if (!watched.ok()) {
    std::cerr << "ccoe up: " << watched.message() << "; the others end their work and stop\n";
  }
  const absl::Status drained = cluster->Drain();
  return watched.ok() ? drained : watched;
}

absl::Status Up(const UpFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(services::ClusterOptions options, ToClusterOptions(flags));
  if (flags.without_base_top && options.model.bundle_folders.empty()) {
    return UsageError("--without-base-top needs experts to answer: give --experts");
  }
  if (!flags.processes) return UpEmbedded(flags, std::move(options));
  return UpProcesses(flags, std::move(options));
}

}  // namespace

void RegisterUp(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<UpFlags>();
  CLI::App* command =
      AddCommand(app, context, "up", "Serves a model with its experts on this machine.",
                 [flags] { return AsServerFailure(Up(*flags)); });
  AddFlag(command, "--model", flags->model,
          "Model folder: a checkpoint, or a folder with base/, experts/ and routing.textproto.")
      .Required();
  AddFlag(command, "--experts", flags->experts,
          "Folder of expert bundles. Default: experts/ of a model folder with base/.");
  AddFlag(command, "--rules", flags->rules,
          "Routing rules. Default: routing.textproto of a model folder with base/.");
  AddFlag(command, "--listen", flags->listen, "Where clients reach the gateway by gRPC.");
  AddSwitch(command, "--processes", flags->processes,
            "Run each role as a process of its own on loopback.");
  AddFlag(
      command, "--expert-workers", flags->expert_workers,
      "Expert workers that the experts are spread over; more than layer experts: replicas. With 0 "
      "the FFN experts of a mixture-of-experts model are with the backbone.")
      .Range(0, 64)
      .ShownDefault("1 with layer experts, else 0");
  AddFlag(command, "--backbone-workers", flags->backbone_workers,
          "Backbone workers; queries go to the least loaded one, all share the expert workers.")
      .Range(1, 16);
  AddFlag(command, "--replicas", flags->replicas,
          "Copies of every FFN expert, on different expert workers.")
      .Range(1, 64);
  AddFlag(command, "--placement", flags->placement,
          "Which expert worker holds which FFN experts (see ccoe placement). Default: evenly.");
  AddFlag(command, "--exchange", flags->exchange,
          "How activations travel. In one process: local (no wire) or grpc; auto is local. Between "
          "processes: grpc or nccl (from GPU to GPU); auto is nccl where it works.")
      .OneOf({"auto", "local", "grpc", "nccl"});
  AddSwitch(command, "--without-base-top", flags->without_base_top,
            "Leave out the base's own layers above the experts' split; then every query needs an "
            "expert.");
  AddThreadsFlag(command, flags->threads);
  AddComputeFlags(command, flags->compute);
  AddServingEngineFlags(command, flags->engine);
  AddFlag(command, "--expert-kv-tokens", flags->expert_kv_tokens,
          "Capacity of each expert's KV cache in tokens, on each worker that holds it.")
      .Positive();
  AddFlag(command, "--max-queries", flags->max_queries,
          "Queries that the gateway takes on at once.")
      .Range(1, 65536);
  AddFlag(command, "--start-timeout", flags->start_timeout_seconds,
          "Seconds until everything must answer.")
      .Positive();
  AddServerFlags(command, flags->server);
}

}  // namespace ccoe::cli
