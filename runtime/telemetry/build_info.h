// What this binary is.
#ifndef CCOE_RUNTIME_TELEMETRY_BUILD_INFO_H_
#define CCOE_RUNTIME_TELEMETRY_BUILD_INFO_H_

namespace ccoe::telemetry {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace ccoe::telemetry

#endif  // CCOE_RUNTIME_TELEMETRY_BUILD_INFO_H_
