// Addresses as flags and reports write them: "host:port", "[::1]:port" or "inproc:NAME".
#ifndef CCOE_SERVICES_COMMON_ADDRESS_H_
#define CCOE_SERVICES_COMMON_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

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

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_ADDRESS_H_
