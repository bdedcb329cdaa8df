// SPDX-License-Identifier: Apache-2.0
// What this process is: its version, and how much memory it occupies.
#ifndef CCOE_RUNTIME_TELEMETRY_PROCESS_INFO_H_
#define CCOE_RUNTIME_TELEMETRY_PROCESS_INFO_H_

#include <cstdint>

namespace ccoe::telemetry {

inline constexpr char kVersion[] = "0.1.0";

// Resident set in bytes, mapped files included; 0 where the system does not say. Thread-safe.
int64_t ResidentBytes();

}  // namespace ccoe::telemetry

#endif  // CCOE_RUNTIME_TELEMETRY_PROCESS_INFO_H_
