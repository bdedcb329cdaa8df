// SPDX-License-Identifier: Apache-2.0
// `ccoe up`: a whole cluster, in one process or in several on this machine.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"
#include "services/cli/commands.h"
#include "services/cli/output.h"
#include "services/common/flag_table.h"
#include "services/common/row_carriers.h"
#include "services/common/server_runner.h"
#include "services/common/signals.h"
#include "services/launcher/embedded_cluster.h"
#include "services/launcher/process_cluster.h"
#include "services/launcher/role_options.h"
#include "services/launcher/server_process.h"
#include "services/offline/offline_engine.h"

namespace ccoe::cli {
namespace {

using services::FlagTable;

// How rows travel, in one process or between several.
enum class UpExchange { kAuto, kLocal, kGrpc, kNccl };

struct UpOptions {
  std::string model, experts, rules;
  bool processes = false;
  UpExchange exchange = UpExchange::kAuto;
  services::ClusterOptions cluster;
};

void SayReady(const std::string& address, const std::string& http) {
  std::cout << "ccoe is ready: gRPC on " << address << ", /metrics and /healthz on " << http
            << std::endl;
}

absl::Status UpEmbedded(const UpOptions& options) {
  if (options.exchange == UpExchange::kNccl) {
    return UsageError(
        "--exchange nccl needs --processes: the workers of one process share its memory");
  }
  const auto exchange = options.exchange == UpExchange::kGrpc ? services::ExchangeKind::kGrpc
                                                              : services::ExchangeKind::kLocal;
  services::ClusterOptions cluster_options = options.cluster;
  const services::ProcessOptions& of_process = cluster_options.gateway.process;
  CCOE_RETURN_IF_ERROR(
      services::CheckListening(cluster_options.gateway.gateway.listen, of_process.http));
  StatusLine line;
  services::ProcessEvents events;
  events.on_progress = [&line](const std::string& what) { line.Show(what); };
  events.on_serving = [&line](const std::string& address, const std::string& http_address) {
    line.Clear();
    SayReady(address, http_address);
  };
  CCOE_ASSIGN_OR_RETURN(auto process, services::ServerProcess::Create(
                                          of_process, cluster_options.backbone.threads, events));
  cluster_options.on_progress = events.on_progress;
  CCOE_ASSIGN_OR_RETURN(
      auto cluster, services::EmbeddedCluster::Create(cluster_options, exchange, process->team(),
                                                      process->environment().metrics));
  line.Show("generating a token with each expert");
  CCOE_RETURN_IF_ERROR(cluster->WaitReady(absl::Now() + cluster_options.start_timeout));
  process->BeginServing(cluster->address(), [&cluster] { return cluster->ready(); });
  process->WaitForSignal();
  cluster->Drain(process->drain_timeout());
  return absl::OkStatus();
}

services::RowTransport TransportOf(UpExchange exchange) {
  if (exchange == UpExchange::kGrpc) return services::RowTransport::kGrpc;
  if (exchange == UpExchange::kNccl) return services::RowTransport::kNccl;
  return services::RowTransport::kAuto;
}

absl::Status UpProcesses(const UpOptions& options) {
  services::ClusterOptions cluster_options = options.cluster;
  cluster_options.backbone.worker.transport = TransportOf(options.exchange);
  cluster_options.expert.worker.transport = TransportOf(options.exchange);
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return absl::InternalError(absl::StrCat("/proc/self/exe: ", error.message()));
  // The children's own announcements are no business of whoever waits for this one.
  const int announce = cluster_options.gateway.process.announce_fd;
  if (announce >= 0) fcntl(announce, F_SETFD, FD_CLOEXEC);
  std::atomic<bool> running = false;
  // While the children start nothing is in flight; they end with this process.
  CCOE_ASSIGN_OR_RETURN(auto signals, services::SignalWatcher::Create([&running](int) {
                          if (!running.load()) _exit(kExitOk);
                        }));
  StatusLine line;
  cluster_options.on_progress = [&line](const std::string& what) { line.Show(what); };
  CCOE_ASSIGN_OR_RETURN(auto cluster,
                        services::ProcessCluster::Start(cluster_options, program.string()));
  running.store(true);
  line.Clear();
  services::Announce(cluster_options.gateway.process.announce_fd, cluster->address(),
                     cluster->http_address());
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

absl::Status Up(UpOptions& options) {
  services::ClusterOptions& cluster = options.cluster;
  CCOE_ASSIGN_OR_RETURN(cluster.model,
                        services::FindModel(options.model, options.experts, options.rules));
  if (cluster.backbone.worker.without_base_top && cluster.model.bundle_folders.empty()) {
    return UsageError("--without-base-top needs experts to answer: give --experts");
  }
  return options.processes ? UpProcesses(options) : UpEmbedded(options);
}

services::FlagBinding ExpertWorkersFlag(std::optional<int>& workers) {
  services::FlagBinding flag;
  flag.name = "expert-workers";
  flag.help =
      "Expert workers that the experts are spread over; more than layer experts: replicas. With 0 "
      "the FFN experts of a mixture-of-experts model are with the backbone.";
  flag.type = services::WholeType(0, 64);
  flag.quoted = false;
  flag.get = [&workers] {
    return workers.has_value() ? std::vector<std::string>{absl::StrCat(*workers)}
                               : std::vector<std::string>();
  };
  flag.set = [&workers](const std::vector<std::string>& values) -> absl::Status {
    CCOE_ASSIGN_OR_RETURN(const int64_t value, services::ParseWhole(values.front(), 0, 64));
    workers = static_cast<int>(value);
    return absl::OkStatus();
  };
  return flag.ShownDefault("1 with layer experts, else 0");
}

FlagTable ModelFlags(UpOptions& up) {
  FlagTable flags;
  flags
      .Add("model", &up.model,
           "Model folder: a checkpoint, or a folder with base/, experts/ and routing.textproto.")
      .Required();
  flags.Add("experts", &up.experts,
            "Folder of expert bundles. Default: experts/ of a model folder with base/.");
  flags.Add("rules", &up.rules,
            "Routing rules. Default: routing.textproto of a model folder with base/.");
  flags.AddOnly("listen", &up.cluster.gateway.gateway.listen,
                "Where clients reach the gateway by gRPC.");
  return flags;
}

FlagTable LayoutFlags(UpOptions& up) {
  FlagTable flags;
  flags.Add("processes", &up.processes, "Run each role as a process of its own on loopback.");
  flags.Add(ExpertWorkersFlag(up.cluster.expert_workers));
  flags.AddWhole("backbone-workers", &up.cluster.backbone_workers, 1, 16,
                 "Backbone workers; queries go to the least loaded one, all share the expert "
                 "workers.");
  flags.AddWhole("replicas", &up.cluster.ffn_copies, 1, 64,
                 "Copies of every FFN expert, on different expert workers.");
  flags.Add("placement", &up.cluster.placement_file,
            "Which expert worker holds which FFN experts (see ccoe placement). Default: evenly.");
  flags.AddChoice<UpExchange>(
      "exchange", &up.exchange,
      {{"auto", UpExchange::kAuto},
       {"local", UpExchange::kLocal},
       {"grpc", UpExchange::kGrpc},
       {"nccl", UpExchange::kNccl}},
      "How activations travel. In one process: local (no wire) or grpc; auto is local. Between "
      "processes: grpc or nccl (from GPU to GPU); auto is nccl where it works.");
  return flags;
}

// Its own, and those of the roles, from their tables.
FlagTable FlagsOf(UpOptions& up) {
  services::ClusterOptions& cluster = up.cluster;
  services::BackboneRole& backbone = cluster.backbone;
  services::ExpertRole& expert = cluster.expert;
  FlagTable flags = ModelFlags(up);
  flags.Append(LayoutFlags(up));
  flags.Append(services::WithoutBaseTopFlags(backbone.worker));
  flags.Append(services::Together(
      {services::ThreadsFlags(backbone.threads), services::ThreadsFlags(expert.threads)}));
  flags.Append(services::Together(
      {services::ComputeFlags(backbone.compute), services::ComputeFlags(expert.compute)}));
  flags.Append(services::EngineFlags(backbone.worker.engine));
  flags.Append(services::ExpertKvFlags("expert-kv-tokens", expert.worker));
  flags.Append(services::LeaseFlags(cluster.router.router));
  flags.Append(services::Together({services::RegisterFlags(backbone.worker.serve),
                                   services::RegisterFlags(expert.worker.serve)}));
  flags.Append(services::AdmissionFlags(cluster.gateway.gateway));
  flags.AddSeconds("start-timeout", &cluster.start_timeout, services::kLeastSeconds,
                   services::kMostSeconds, "Seconds until everything must answer.");
  // Where metrics are is the gateway's; how long a drain may last is all roles'.
  flags.Append(services::EndpointFlags(cluster.gateway.process));
  flags.Append(services::Together(
      {services::DrainFlags(cluster.gateway.process), services::DrainFlags(cluster.router.process),
       services::DrainFlags(backbone.process), services::DrainFlags(expert.process)}));
  return flags;
}

}  // namespace

void RegisterUp(CLI::App& app, CommandContext& context) {
  auto options = std::make_shared<UpOptions>();
  CLI::App* command =
      AddCommand(app, context, "up", "Serves a model with its experts on this machine.",
                 [options] { return AsServerFailure(Up(*options)); });
  AddConfigFlags(command, context, FlagsOf(*options));
}

}  // namespace ccoe::cli
