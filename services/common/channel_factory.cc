// SPDX-License-Identifier: Apache-2.0
#include "services/common/channel_factory.h"

#include <grpcpp/create_channel_posix.h>
#include <grpcpp/server_posix.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

constexpr size_t kMaxHostLength = 255;  // of a DNS name

absl::Status Malformed(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("address \"", text.substr(0, kMaxHostLength), "\": ", why,
                   "; expected HOST:PORT, such as 127.0.0.1:8001 or [::1]:8001"));
}

bool IsHostCharacter(char c) {
  return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_' || c == ':' || c == '%';
}

constexpr absl::Duration kConnectTimeout = absl::Seconds(3);  // as the longest pause between two

int Ms(absl::Duration duration) { return static_cast<int>(absl::ToInt64Milliseconds(duration)); }

grpc::ChannelArguments MessageLimits() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  return arguments;
}

}  // namespace

std::string HostPort::ToString() const {
  if (absl::StrContains(host, ':')) return absl::StrCat("[", host, "]:", port);
  return absl::StrCat(host, ":", port);
}

bool HostPort::IsLoopback() const {
  return host == "localhost" || host == "::1" || absl::StartsWith(host, "127.");
}

absl::StatusOr<HostPort> ParseHostPort(absl::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return Malformed(text, "no port");
  absl::string_view host = text.substr(0, colon);
  const absl::string_view port = text.substr(colon + 1);
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]")) return Malformed(text, "no closing bracket");
  } else if (absl::StrContains(host, ':')) {
    return Malformed(text, "an IPv6 host stands in brackets");
  }
  if (host.empty() || host.size() > kMaxHostLength) return Malformed(text, "no host");
  for (char c : host) {
    if (!IsHostCharacter(c)) return Malformed(text, "a character that no host has");
  }
  HostPort result;
  result.host = std::string(host);
  int32_t number = 0;
  if (port.empty() || !absl::ascii_isdigit(port[0]) || !absl::SimpleAtoi(port, &number) ||
      number > 65535) {
    return Malformed(text, "the port is not a number from 0 to 65535");
  }
  result.port = number;
  return result;
}

bool IsInProcess(absl::string_view address) { return absl::StartsWith(address, kInProcessPrefix); }

std::string InProcessName(absl::string_view address) {
  return std::string(absl::StripPrefix(address, kInProcessPrefix));
}

absl::Status InProcessRegistry::Register(const std::string& name, grpc::Server* server) {
  absl::MutexLock lock(&mutex_);
  if (!servers_.emplace(name, server).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("a server named \"", name, "\" already runs in this process"));
  }
  return absl::OkStatus();
}

void InProcessRegistry::Unregister(const std::string& name) {
  absl::MutexLock lock(&mutex_);
  servers_.erase(name);
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> InProcessRegistry::Connect(const std::string& name) {
  absl::MutexLock lock(&mutex_);
  const auto found = servers_.find(name);
  if (found == servers_.end()) {
    return absl::UnavailableError(
        absl::StrCat("no server named \"", name, "\" runs in this process"));
  }
  // Not Server::InProcessChannel: with gRPC 1.51 a call on such a channel crashes once the server
  // has shut down.
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("channel to \"", name, "\": socketpair: ", strerror(errno)));
  }
  grpc::AddInsecureChannelFromFd(found->second, ends[0]);
  return grpc::CreateCustomInsecureChannelFromFd(name, ends[1], MessageLimits());
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> ChannelFactory::Connect(
    const std::string& address) const {
  if (IsInProcess(address)) {
    if (registry_ == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("address \"", address, "\": this process holds no servers of its own"));
    }
    return registry_->Connect(InProcessName(address));
  }
  CCOE_ASSIGN_OR_RETURN(const HostPort target, ParseHostPort(address));
  if (target.port == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", address, "\": port 0 cannot be called"));
  }
  grpc::ChannelArguments arguments = MessageLimits();
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, Ms(options_.keepalive_time));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Ms(options_.keepalive_timeout));
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, Ms(options_.min_reconnect_backoff));
  // What gRPC calls so bounds one attempt to connect; a busy machine needs its time for that.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, Ms(kConnectTimeout));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, Ms(options_.max_reconnect_backoff));
  // Workers talk straight to each other, whatever http_proxy says.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(target.ToString(), grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace ccoe::services
