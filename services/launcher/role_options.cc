// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/role_options.h"

#include <limits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/dtype.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

constexpr char kRouterAddress[] = "127.0.0.1:8100";
constexpr char kFreePort[] = "127.0.0.1:0";
constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

FlagTable ListenFlags(std::vector<std::string>& listen) {
  FlagTable flags;
  flags.AddOnly("listen", &listen, "Where this role serves gRPC; port 0 takes a free one.");
  return flags;
}

FlagTable RouterAddressFlags(std::string& router) {
  FlagTable flags;
  flags.Add("router", &router, "The router's address.");
  return flags;
}

FlagTable IdFlags(std::string& id) {
  FlagTable flags;
  flags.Add("id", &id, "The worker's name, unique in the cluster.");
  return flags;
}

// Where a worker is reached, and where it reaches the router.
FlagTable PlaceFlags(ServeOptions& serve, std::string& router) {
  FlagTable flags = ListenFlags(serve.listen);
  flags.Add("advertise", &serve.advertise,
            "Address that other processes reach this worker at. Default: the one it listens at.");
  flags.Append(RouterAddressFlags(router));
  flags.Append(RegisterFlags(serve));
  return flags;
}

FlagTable TransportFlags(RowTransport& transport) {
  FlagTable flags;
  flags.AddChoice<RowTransport>(
      "exchange", &transport,
      {{"auto", RowTransport::kAuto}, {"grpc", RowTransport::kGrpc}, {"nccl", RowTransport::kNccl}},
      "How rows travel between workers: nccl (from GPU to GPU), grpc (in messages), or auto: nccl "
      "where both ends have it.");
  return flags;
}

std::vector<std::pair<std::string, kernels::DType>> FloatTypes() {
  return {{"f32", kernels::DType::kF32}, {"bf16", kernels::DType::kBF16}};
}

// "MIN:MAX", or nothing where requests may not choose.
FlagBinding ActiveExpertsFlag(engine::MoePolicy& policy) {
  FlagBinding flag;
  flag.name = "moe-active-experts";
  flag.help =
      "Let requests set the number of FFN experts that a token activates, within MIN:MAX. Default: "
      "not.";
  flag.get = [&policy]() -> std::vector<std::string> {
    if (!policy.allow_active_experts) return {};
    return {absl::StrCat(policy.min_active_experts, ":", policy.max_active_experts)};
  };
  flag.set = [&policy](const std::vector<std::string>& values) {
    const std::vector<std::string> bounds = absl::StrSplit(values.front(), ':');
    int32_t least = 0, most = 0;
    if (bounds.size() != 2 || !absl::SimpleAtoi(bounds[0], &least) ||
        !absl::SimpleAtoi(bounds[1], &most) || least < 1 || most < least) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected MIN:MAX with 1 <= MIN <= MAX, found \"", values.front(), "\""));
    }
    policy.allow_active_experts = true;
    policy.min_active_experts = least;
    policy.max_active_experts = most;
    return absl::OkStatus();
  };
  return flag;
}

FlagTable MoePolicyFlags(engine::MoePolicy& policy) {
  FlagTable flags;
  flags.Add(ActiveExpertsFlag(policy));
  flags.Add("moe-allow-masks", &policy.allow_masks,
            "Let requests name FFN experts that their tokens may not choose.");
  flags.Add("moe-allow-forced", &policy.allow_forced,
            "Let requests name FFN experts that all their tokens choose.");
  return flags;
}

}  // namespace

RouterRole::RouterRole() {
  router.serve.listen = {kRouterAddress};
  process.http = "127.0.0.1:8102";
}

BackboneRole::BackboneRole() {
  worker.router = kRouterAddress;
  process.http = kFreePort;
}

ExpertRole::ExpertRole() {
  worker.router = kRouterAddress;
  process.http = kFreePort;
}

GatewayRole::GatewayRole() {
  gateway.router = kRouterAddress;
  process.http = "127.0.0.1:8002";
}

RoleKind KindOf(const RoleOptions& role) { return static_cast<RoleKind>(role.index()); }

std::string KindName(RoleKind kind) {
  static constexpr const char* kNames[] = {"router", "backbone", "expert", "gateway"};
  return kNames[static_cast<size_t>(kind)];
}

std::string NameOf(const RoleOptions& role) {
  if (const auto* backbone = std::get_if<BackboneRole>(&role)) return backbone->worker.worker_id;
  if (const auto* expert = std::get_if<ExpertRole>(&role)) return expert->worker.worker_id;
  return KindName(KindOf(role));
}

ProcessOptions& ProcessOf(RoleOptions& role) {
  return std::visit([](auto& each) -> ProcessOptions& { return each.process; }, role);
}

const ProcessOptions& ProcessOf(const RoleOptions& role) {
  return std::visit([](const auto& each) -> const ProcessOptions& { return each.process; }, role);
}

ServeOptions* ServeOf(RoleOptions& role) {
  if (auto* router = std::get_if<RouterRole>(&role)) return &router->router.serve;
  if (auto* backbone = std::get_if<BackboneRole>(&role)) return &backbone->worker.serve;
  if (auto* expert = std::get_if<ExpertRole>(&role)) return &expert->worker.serve;
  return nullptr;
}

std::vector<std::string> ListenOf(RoleOptions role) {
  const ServeOptions* serve = ServeOf(role);
  return serve != nullptr ? serve->listen : std::get<GatewayRole>(role).gateway.listen;
}

void SetRouterAddress(const std::string& address, RoleOptions& role) {
  if (auto* backbone = std::get_if<BackboneRole>(&role)) backbone->worker.router = address;
  if (auto* expert = std::get_if<ExpertRole>(&role)) expert->worker.router = address;
  if (auto* gateway = std::get_if<GatewayRole>(&role)) gateway->gateway.router = address;
}

FlagTable EndpointFlags(ProcessOptions& process) {
  FlagTable flags;
  flags.Add("http", &process.http,
            "Where /metrics (Prometheus) and /healthz are served; port 0 takes a free one.");
  // A descriptor is one process's own.
  flags
      .AddWhole("announce-fd", &process.announce_fd, std::numeric_limits<int64_t>::min(), kMost,
                "Open file descriptor that \"ADDRESS HTTP_ADDRESS\" is written to once this "
                "process serves; -1: none.")
      .in_config = false;
  return flags;
}

FlagTable DrainFlags(ProcessOptions& process) {
  FlagTable flags;
  flags.AddSeconds("drain-timeout", &process.drain_timeout, 0, 86400,
                   "Seconds that running queries get to end after SIGTERM.");
  return flags;
}

FlagTable LeaseFlags(RouterOptions& router) {
  FlagTable flags;
  flags.AddSeconds("lease", &router.lease, 0.1, 600,
                   "Seconds after which a silent worker is forgotten.");
  return flags;
}

FlagTable AdmissionFlags(GatewayOptions& gateway) {
  FlagTable flags;
  flags.AddWhole("max-queries", &gateway.max_queries, 1, 65536,
                 "Queries that the gateway takes on at once.");
  flags.AddSeconds("longest-query", &gateway.longest_query, kLeastSeconds, kMostSeconds,
                   "Seconds that a query may take whose client set no earlier deadline.");
  return flags;
}

FlagTable EngineFlags(engine::EngineOptions& engine) {
  FlagTable flags;
  flags.AddWhole("kv-tokens", &engine.kv_tokens, 1, kMost,
                 "Capacity of the backbone's KV cache in tokens. Memory is used as it fills.");
  flags.AddWhole("step-tokens", &engine.max_step_tokens, 1, kMost,
                 "Tokens that one step may hold: decoding sequences first, then prefill.");
  flags.AddWhole("prefill-chunk", &engine.max_prefill_chunk, 1, kMost,
                 "Tokens of one prompt that one step may hold.");
  flags.AddWhole("max-running", &engine.max_running, 1, kMost, "Queries that run at once.");
  flags.AddWhole("max-waiting", &engine.max_waiting, 0, kMost,
                 "Queries that may wait for a place; one more is refused (RESOURCE_EXHAUSTED).");
  flags.AddChoice("wire", &engine.wire_dtype, FloatTypes(),
                  "Type of activations between backbone and expert workers: f32 is exact, bf16 "
                  "halves the bytes.");
  flags.Add("combine-on-workers", &engine.combine_on_workers,
            "Expert workers add up a row's FFN experts before they send them back: less traffic; "
            "answers then depend on the placement within rounding.");
  flags.AddSeconds("replica-patience", &engine.replica_patience, 0, 3600,
                   "Seconds that a query waits for a worker where none holds its expert now.");
  flags.AddSeconds("room-patience", &engine.room_patience, 0, 3600,
                   "Seconds that a query waits for room at an expert that is full.");
  flags.Append(MoePolicyFlags(engine.moe_policy));
  return flags;
}

FlagTable ComputeFlags(ComputeOptions& compute) {
  FlagTable flags;
  flags.Add("device", &compute.device, "What computes: cpu, cuda (the first GPU) or cuda:N.");
  flags.AddChoice("math", &compute.math, FloatTypes(),
                  "On a GPU: what matrix products multiply, weights are held as and the KV cache "
                  "holds; sums are f32 either way. The CPU computes in f32.");
  flags.AddChoice<Numerics>(
      "numerics", &compute.numerics,
      {{"deterministic", Numerics::kDeterministic}, {"fast", Numerics::kFast}},
      "On a GPU: deterministic gives a row the same bits in any batch. fast computes linears of "
      "more than 16 rows by cuBLASLt, without that promise: answers then depend on what else "
      "runs.");
  return flags;
}

FlagTable ThreadsFlags(int& threads) {
  FlagTable flags;
  flags.AddWhole("threads", &threads, 0, 1024, "Threads that compute; 0: all cores.");
  return flags;
}

FlagTable RegisterFlags(ServeOptions& serve) {
  FlagTable flags;
  flags.AddSeconds("register-timeout", &serve.register_timeout, kLeastSeconds, kMostSeconds,
                   "Seconds to wait for the router at the start.");
  return flags;
}

FlagTable WithoutBaseTopFlags(BackboneWorkerOptions& worker) {
  FlagTable flags;
  flags.Add("without-base-top", &worker.without_base_top,
            "Hold only the layers below the experts; then every query needs an expert.");
  return flags;
}

FlagTable ExpertKvFlags(const std::string& name, ExpertWorkerOptions& worker) {
  FlagTable flags;
  flags.AddWhole(name, &worker.host.kv_tokens, 1, kMost,
                 "Capacity of each expert's KV cache in tokens, on each worker that holds it. "
                 "Memory is used as it fills.");
  return flags;
}

FlagTable FlagsOf(RouterRole& role) {
  RouterOptions& router = role.router;
  FlagTable flags = ListenFlags(router.serve.listen);
  flags.Add("rules", &router.rules_file,
            "Routing rules (text form of ccoe.v1.RoutingRules). Default: none.");
  flags.Add("placement", &router.placement_file,
            "Which worker holds which FFN experts (text form of ccoe.v1.PlacementPlan). Default: "
            "all are with the backbone workers.");
  flags.Add("model", &router.model_folder,
            "The model's folder, which the placement is checked against; no weights are needed. "
            "Default: only what needs no model is checked.");
  flags.Append(LeaseFlags(router));
  flags.Append(EndpointFlags(role.process));
  flags.Append(DrainFlags(role.process));
  return flags;
}

FlagTable FlagsOf(BackboneRole& role) {
  BackboneWorkerOptions& worker = role.worker;
  FlagTable flags = IdFlags(worker.worker_id);
  flags.Add("model", &worker.model_folder, "The base model's folder.").Required();
  flags.AddList("bundle", &worker.bundle_folders,
                "Bundle of an expert that brings its own norm or head, or for --without-base-top. "
                "May be given several times.");
  flags.Append(WithoutBaseTopFlags(worker));
  flags.Append(ThreadsFlags(role.threads));
  flags.Append(ComputeFlags(role.compute));
  flags.Append(TransportFlags(worker.transport));
  flags.Append(EngineFlags(worker.engine));
  flags.Append(PlaceFlags(worker.serve, worker.router));
  flags.Append(EndpointFlags(role.process));
  flags.Append(DrainFlags(role.process));
  return flags;
}

FlagTable FlagsOf(ExpertRole& role) {
  ExpertWorkerOptions& worker = role.worker;
  FlagTable flags = IdFlags(worker.worker_id);
  flags
      .Add("model", &worker.base_folder,
           "The base model's folder: config.json; with its weights the bundles are checked against "
           "them. FFN experts are read from it.")
      .Required();
  flags.AddList("bundle", &worker.bundle_folders,
                "Folder of an expert bundle to hold. May be given several times; may be left out "
                "for a model with FFN experts.");
  flags.Append(ThreadsFlags(role.threads));
  flags.Append(ComputeFlags(role.compute));
  flags.Append(TransportFlags(worker.transport));
  flags.Append(ExpertKvFlags("kv-tokens", worker));
  flags.Append(PlaceFlags(worker.serve, worker.router));
  flags.Append(EndpointFlags(role.process));
  flags.Append(DrainFlags(role.process));
  return flags;
}

FlagTable FlagsOf(GatewayRole& role) {
  GatewayOptions& gateway = role.gateway;
  FlagTable flags;
  flags
      .Add("model", &gateway.model_folder,
           "Folder with the model's tokenizer and config.json; no weights are read.")
      .Required();
  flags.Append(ListenFlags(gateway.listen));
  flags.Append(RouterAddressFlags(gateway.router));
  flags.Append(AdmissionFlags(gateway));
  flags.Append(EndpointFlags(role.process));
  flags.Append(DrainFlags(role.process));
  return flags;
}

std::string ConfigTextOf(RoleOptions role) {
  return std::visit(
      [&role](auto& options) {
        return ConfigSectionText(KindName(KindOf(role)), FlagsOf(options), /*with_help=*/false);
      },
      role);
}

}  // namespace ccoe::services
