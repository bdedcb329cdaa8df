// SPDX-License-Identifier: Apache-2.0
#include "services/common/server_runner.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/support/server_interceptor.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/common/channel_factory.h"

namespace ccoe::services {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

// How often a client may ping: half of what ChannelFactory's clients do.
constexpr int kMinPingIntervalMs = 5000;

// A connection without traffic is asked after this time, and given up after another.
constexpr int kKeepaliveMs = 10000;

// gRPC's reflection library puts its plugin into every server of the process once it is linked.
// This puts the choice back to the single server.
class ReflectionOption final : public grpc::ServerBuilderOption {
 public:
  explicit ReflectionOption(bool on) : on_(on) {}

  void UpdateArguments(grpc::ChannelArguments*) override {}

  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    auto plugin = std::make_unique<grpc::reflection::ProtoServerReflectionPlugin>();
    const std::string name = plugin->name();
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(),
                                  [&](const auto& other) { return other->name() == name; }),
                   plugins->end());
    if (on_) plugins->push_back(std::move(plugin));
  }

 private:
  const bool on_;
};

// gRPC answers a request that cannot be parsed (bytes that are no protobuf message, a string field
// that is not UTF-8) with INTERNAL and no words, before a handler sees it. This turns that into
// INVALID_ARGUMENT that says so and names the method. Errors of handlers carry a message and pass
// unchanged.
class ParseErrorInterceptor final : public grpc::experimental::Interceptor {
 public:
  explicit ParseErrorInterceptor(const ServerRpcInfo* info) : info_(info) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const grpc::Status status = methods->GetSendStatus();
      if (status.error_code() == grpc::StatusCode::INTERNAL && status.error_message().empty()) {
        methods->ModifySendStatus(
            grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                         absl::StrCat(info_->method(),
                                      ": the request cannot be read: expected a protobuf "
                                      "message whose strings are UTF-8")));
      }
    }
    methods->Proceed();
  }

 private:
  const ServerRpcInfo* const info_;
};

class ParseErrorInterceptorFactory final
    : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    // An interceptor costs each message of a stream another way through gRPC's queue, and these
    // streams, a message a step, are no client's.
    const absl::string_view method = info->method();
    if (method == "/ccoe.v1.Exchange/Open" || method == "/ccoe.v1.Backbone/Generate")
      return nullptr;
    return new ParseErrorInterceptor(info);  // gRPC takes it
  }
};

absl::StatusOr<std::vector<HostPort>> ParseAddresses(const std::vector<std::string>& listen) {
  std::vector<HostPort> addresses;
  for (const std::string& text : listen) {
    CCOE_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(text));
    addresses.push_back(std::move(address));
  }
  return addresses;
}

void SetLimits(const ServerOptions& options, grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(options.max_message_bytes);
  builder->SetMaxSendMessageSize(options.max_message_bytes);
  builder->SetResourceQuota(grpc::ResourceQuota("ccoe").SetMaxThreads(options.max_threads));
  builder->SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              kMinPingIntervalMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // A client whose machine is gone says nothing: what is held for it (KV of an expert, a stream)
  // would stay.
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
}

bool WantsReflection(const ServerOptions& options, const std::vector<HostPort>& addresses) {
  if (options.reflection.has_value()) return *options.reflection;
  return std::all_of(addresses.begin(), addresses.end(),
                     [](const HostPort& address) { return address.IsLoopback(); });
}

// Binds as servers do, and lets go. 0, or errno.
int TryBind(const addrinfo& info) {
  const int socket_fd = socket(info.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket_fd < 0) return errno;
  const int yes = 1;
  setsockopt(socket_fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  const int error = bind(socket_fd, info.ai_addr, info.ai_addrlen) == 0 ? 0 : errno;
  close(socket_fd);
  return error;
}

absl::Status CheckListening(const std::string& text, absl::string_view what) {
  CCOE_ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(text));
  addrinfo hints = {};
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int unresolved =
      getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  // As gRPC: one address of a name is enough, but none that another process has.
  int error = 0;
  bool bound = false;
  for (const addrinfo* each = found; each != nullptr && error != EADDRINUSE; each = each->ai_next) {
    error = TryBind(*each);
    bound = bound || error == 0;
  }
  if (found != nullptr) freeaddrinfo(found);
  if (bound && error != EADDRINUSE) return absl::OkStatus();
  const std::string why = unresolved != 0          ? gai_strerror(unresolved)
                          : error == EADDRINUSE    ? "the port is in use by another process"
                          : error == EADDRNOTAVAIL ? "the host is not an address of this machine"
                                                   : std::strerror(error);
  return absl::UnavailableError(absl::StrCat("cannot listen on ", text, " (", what, "): ", why));
}

}  // namespace

absl::Status CheckListening(const std::vector<std::string>& grpc, const std::string& http) {
  for (const std::string& address : grpc) {
    CCOE_RETURN_IF_ERROR(CheckListening(address, "gRPC"));
    CCOE_ASSIGN_OR_RETURN(const HostPort parsed, ParseHostPort(address));
    if (address != http || parsed.port == 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("gRPC and HTTP: expected two addresses, found ", address, " for both"));
  }
  return http.empty() ? absl::OkStatus() : CheckListening(http, "metrics and health");
}

absl::StatusOr<std::unique_ptr<ServerRunner>> ServerRunner::Start(ServerOptions options) {
  CCOE_ASSIGN_OR_RETURN(std::vector<HostPort> addresses, ParseAddresses(options.listen));
  CCOE_CHECK(options.in_process_name.empty() || options.registry != nullptr);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  SetLimits(options, &builder);
  builder.SetOption(std::make_unique<ReflectionOption>(WantsReflection(options, addresses)));
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(std::make_unique<ParseErrorInterceptorFactory>());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  for (const NamedService& named : options.services) builder.RegisterService(named.service);
  std::vector<int> ports(addresses.size(), 0);
  for (size_t i = 0; i < addresses.size(); ++i) {
    builder.AddListeningPort(addresses[i].ToString(), grpc::InsecureServerCredentials(), &ports[i]);
  }
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (ports[i] <= 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", addresses[i].ToString(), ": port ", addresses[i].port,
                       " is in use, or the host is not an address of this machine"));
    }
    addresses[i].port = ports[i];
  }
  if (server == nullptr) return absl::InternalError("the gRPC server did not start");
  std::vector<std::string> dialled;
  for (const HostPort& address : addresses) dialled.push_back(address.ToString());
  if (!options.in_process_name.empty()) {
    const absl::Status registered =
        options.registry->Register(options.in_process_name, server.get());
    if (!registered.ok()) {
      server->Shutdown(std::chrono::system_clock::now());
      return registered;
    }
  }
  std::unique_ptr<ServerRunner> runner(
      new ServerRunner(std::move(options), std::move(dialled), std::move(server)));
  runner->SetReady(false);
  return runner;
}

ServerRunner::ServerRunner(ServerOptions options, std::vector<std::string> addresses,
                           std::unique_ptr<grpc::Server> server)
    : options_(std::move(options)), addresses_(std::move(addresses)), server_(std::move(server)) {}

ServerRunner::~ServerRunner() { Drain(absl::ZeroDuration()); }

void ServerRunner::SetReady(bool ready) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return;
  ReportHealth(ready);
}

void ServerRunner::ReportHealth(bool ready) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  if (health == nullptr) return;
  health->SetServingStatus("", ready);
  health->SetServingStatus("readiness", ready);
  for (const NamedService& named : options_.services) {
    health->SetServingStatus(named.full_name, ready);
  }
  health->SetServingStatus("liveness", true);
}

void ServerRunner::Drain(absl::Duration grace) {
  bool first = false;
  {
    absl::MutexLock lock(&mutex_);
    first = !draining_;
    if (first) ReportHealth(false);
    draining_ = true;
  }
  if (first) {
    if (!options_.in_process_name.empty()) options_.registry->Unregister(options_.in_process_name);
    if (options_.on_drain) options_.on_drain();
  }
  server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  server_->Wait();
}

}  // namespace ccoe::services
