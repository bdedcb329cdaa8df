// How much memory this process occupies.
#ifndef CCOE_RUNTIME_TELEMETRY_RESIDENT_BYTES_H_
#define CCOE_RUNTIME_TELEMETRY_RESIDENT_BYTES_H_

#include <cstdint>

namespace ccoe::telemetry {

// Resident set in bytes, mapped files included; 0 where the system does not say. Thread-safe.
int64_t ResidentBytes();

}  // namespace ccoe::telemetry

#endif  // CCOE_RUNTIME_TELEMETRY_RESIDENT_BYTES_H_
