// SPDX-License-Identifier: Apache-2.0
// Addresses as flags and reports write them, "host:port", "[::1]:port" or "inproc:NAME", and gRPC
// channels to them, over TCP or inside the process.
#ifndef CCOE_SERVICES_COMMON_CHANNEL_FACTORY_H_
#define CCOE_SERVICES_COMMON_CHANNEL_FACTORY_H_

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace ccoe::services {

struct HostPort {
  std::string host;  // without brackets
  int port = 0;      // 0 to 65535; 0 lets the system choose, where a server listens

  // "host:port", with brackets around an IPv6 host.
  std::string ToString() const;
  // Reachable from this machine alone: 127.0.0.0/8, ::1, "localhost".
  bool IsLoopback() const;
};

// INVALID_ARGUMENT says what is wrong with `text`.
absl::StatusOr<HostPort> ParseHostPort(absl::string_view text);

inline constexpr absl::string_view kInProcessPrefix = "inproc:";

// Whether `address` names a server of this process, and which.
bool IsInProcess(absl::string_view address);
std::string InProcessName(absl::string_view address);

// Largest gRPC message either way, in bytes: activations of a long prefill chunk travel in one.
inline constexpr int kMaxMessageBytes = 64 << 20;

// The servers of this process by name. Made by whoever assembles the process; outlives its servers
// and channel factories. Thread-safe.
class InProcessRegistry {
 public:
  // ALREADY_EXISTS where `name` is taken. `server` must be unregistered before it is destroyed.
  absl::Status Register(const std::string& name, grpc::Server* server) ABSL_LOCKS_EXCLUDED(mutex_);
  void Unregister(const std::string& name) ABSL_LOCKS_EXCLUDED(mutex_);

  // A channel to the server, over a pair of sockets; it stays valid, but fails, after the server
  // has gone. UNAVAILABLE where no server has this name now.
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const std::string& name)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Mutex mutex_;
  std::map<std::string, grpc::Server*> servers_ ABSL_GUARDED_BY(mutex_);
};

struct ChannelOptions {
  // A silent connection is probed after keepalive_time and given up after keepalive_timeout more.
  absl::Duration keepalive_time = absl::Seconds(10);
  absl::Duration keepalive_timeout = absl::Seconds(20);
  // Between attempts to connect: doubled (roughly) from the first to the last.
  absl::Duration min_reconnect_backoff = absl::Milliseconds(100);
  absl::Duration max_reconnect_backoff = absl::Seconds(3);
};

// Thread-safe.
class ChannelFactory {
 public:
  // `registry` may be null where no "inproc:" address will be asked for; else it outlives the
  // factory.
  explicit ChannelFactory(InProcessRegistry* registry, ChannelOptions options = {})
      : registry_(registry), options_(options) {}

  // "host:port" (TCP, not encrypted) or "inproc:NAME". INVALID_ARGUMENT: malformed. A TCP channel
  // connects at its first call, so a peer that is not there shows then; "inproc:" needs the server
  // now (UNAVAILABLE). Every call makes a new channel; TCP channels to one address share a
  // connection. Keep channels rather than making many.
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const std::string& address) const;

 private:
  InProcessRegistry* const registry_;
  const ChannelOptions options_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_CHANNEL_FACTORY_H_
