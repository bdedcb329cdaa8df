// SPDX-License-Identifier: Apache-2.0
// What the roles of one process share.
#ifndef CCOE_SERVICES_COMMON_ROLE_ENVIRONMENT_H_
#define CCOE_SERVICES_COMMON_ROLE_ENVIRONMENT_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "runtime/telemetry/metrics.h"
#include "services/common/channel_factory.h"

namespace ccoe::services {

class Compute;
class LocalPeers;

// Everything outlives the roles.
struct RoleEnvironment {
  const Compute* compute = nullptr;  // workers' only
  const ChannelFactory* channels = nullptr;
  telemetry::Metrics* metrics = nullptr;
  InProcessRegistry* in_process = nullptr;  // null: the role is alone in its process
  LocalPeers* local_peers = nullptr;        // null: no local links
  // Told what is being loaded, for people; from the calling thread. Unset: nothing.
  std::function<void(const std::string& what)> on_progress;

  void Progress(const std::string& what) const {
    if (on_progress) on_progress(what);
  }
};

// Where a role listens and how others reach it.
struct ServeOptions {
  std::vector<std::string> listen = {
      "127.0.0.1:0"};           // "host:port"; port 0: a free one. Empty: in this process only
  std::string in_process_name;  // reachable as "inproc:NAME"; empty: not
  // What others are told to dial. Empty: the in-process name where there is one, else the first
  // listen address.
  std::string advertise;
  // The longest a role waits for the router at its start.
  absl::Duration register_timeout = absl::Seconds(30);
};

// What a role tells others to dial, once its server runs at `addresses`.
inline std::string AdvertisedAddress(const ServeOptions& options,
                                     const std::vector<std::string>& addresses) {
  if (!options.advertise.empty()) return options.advertise;
  if (!options.in_process_name.empty()) return "inproc:" + options.in_process_name;
  return addresses.front();
}

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_ROLE_ENVIRONMENT_H_
