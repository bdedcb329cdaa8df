// SPDX-License-Identifier: Apache-2.0
// `ccoe status`: the workers and experts of a running cluster.
#include <google/protobuf/util/json_util.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "runtime/base/ids.h"
#include "runtime/base/status_macros.h"
#include "services/cli/client/client.h"
#include "services/cli/commands.h"
#include "services/common/channel_factory.h"
#include "services/common/model_report.h"
#include "services/common/stubs.h"

namespace ccoe::cli {
namespace {

struct StatusFlags {
  ClientFlags client;
  bool json = false;
};

std::string Name(const v1::Expert& expert) {
  return ExpertRef{expert.name(), expert.version()}.ToString();
}

std::string Experts(const v1::WorkerStatus& worker) {
  return absl::StrJoin(worker.experts(), " ", [](std::string* out, const v1::Expert& e) {
    absl::StrAppend(out, Name(e));
  });
}

// What is held of the model's FFN experts; nothing where no worker has some.
void PrintFfnExperts(const v1::ClusterStatus& status) {
  bool any = false;
  for (const v1::WorkerStatus& worker : status.workers()) {
    if (worker.ffn_shard().layers_size() == 0) continue;
    if (!std::exchange(any, true)) {
      std::cout << "\nFFN experts, placement epoch " << status.placement_epoch()
                << "\nworker               size  held\n";
    }
    const auto shard = services::FfnShardFromProto(worker.ffn_shard());
    std::cout << absl::StrFormat("%-17s %7.1f MB  %s\n", worker.worker_id(),
                                 static_cast<double>(worker.ffn_bytes()) / 1e6,
                                 shard.ok() ? shard->ToString() : "?");
  }
}

// Of workers whose memory is planned.
void PrintDevices(const v1::ClusterStatus& status) {
  bool any = false;
  for (const v1::WorkerStatus& worker : status.workers()) {
    const v1::WorkerLoad& load = worker.load();
    if (load.device().empty()) continue;
    if (!std::exchange(any, true)) {
      std::cout << "\nworker            device    memory planned     free  taken while serving\n";
    }
    const int64_t allocations = load.device_serving_allocations();
    std::cout << absl::StrFormat(
        "%-17s %-9s %11.2f GB %5.2f GB  %s\n", worker.worker_id(), load.device(),
        static_cast<double>(load.device_planned_bytes()) / 1e9,
        static_cast<double>(load.device_free_bytes()) / 1e9,
        allocations == 0 ? "nothing" : absl::StrCat(allocations, " times: the plan was too small"));
  }
}

void PrintStatus(const v1::ClusterStatus& status) {
  std::cout << absl::StrFormat("table epoch %d, model %s\n\n", status.epoch(),
                               status.model_fingerprint().substr(0, 12));
  std::cout << "worker            role      ready  waiting  running   KV used/total  resident  "
               "silent  experts\n";
  for (const v1::WorkerStatus& worker : status.workers()) {
    const v1::WorkerLoad& load = worker.load();
    std::cout << absl::StrFormat(
        "%-17s %-9s %-5s %8d %8d %7d/%-7d %6.0f MB %5.1f s  %s\n", worker.worker_id(),
        worker.role() == v1::WORKER_ROLE_BACKBONE ? "backbone" : "expert",
        worker.ready() ? "yes" : "no", load.waiting(), load.running(), load.kv_tokens_used(),
        load.kv_tokens_total(), static_cast<double>(load.resident_bytes()) / 1e6,
        worker.silent_seconds(), Experts(worker));
  }
  PrintDevices(status);
  std::cout << "\nexpert            layers  replicas     size  domain\n";
  for (const v1::ExpertInfo& info : status.experts()) {
    std::cout << absl::StrFormat("%-17s %3d:%-3d %8d %5.1f MB  %s\n", Name(info.expert()),
                                 info.first_layer(), info.last_layer(), info.replicas(),
                                 static_cast<double>(info.weight_bytes()) / 1e6, info.domain());
  }
  PrintFfnExperts(status);
}

absl::Status Status(const StatusFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto channel,
                        services::ChannelFactory(nullptr).Connect(flags.client.server));
  services::CallPolicy policy;
  policy.deadline = absl::Seconds(flags.client.timeout_seconds);
  const auto status = services::MakeControlStub(channel, policy)->GetStatus({});
  if (!status.ok()) return AtServer(status.status(), flags.client.server, *channel);
  if (!flags.json) {
    PrintStatus(*status);
    return absl::OkStatus();
  }
  std::string json;
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  if (!google::protobuf::util::MessageToJsonString(*status, &json, options).ok()) {
    return absl::InternalError("the cluster's status cannot be written as JSON");
  }
  std::cout << json << "\n";
  return absl::OkStatus();
}

}  // namespace

void RegisterStatus(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<StatusFlags>();
  CLI::App* command =
      AddCommand(app, context, "status", "Shows the workers and experts of a running cluster.",
                 [flags] { return Status(*flags); });
  AddClientFlags(command, flags->client);
  AddSwitch(command, "--json", flags->json, "Print JSON.");
}

}  // namespace ccoe::cli
