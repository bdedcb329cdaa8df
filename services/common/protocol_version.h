// The version of the wire protocol between ccoe's own processes.
#ifndef CCOE_SERVICES_COMMON_PROTOCOL_VERSION_H_
#define CCOE_SERVICES_COMMON_PROTOCOL_VERSION_H_

#include <cstdint>

namespace ccoe::services {

// Rises when processes of two builds could misunderstand each other; adding a proto field does not
// do that. Peers of another version are refused.
inline constexpr int32_t kProtocolVersion = 2;

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_PROTOCOL_VERSION_H_
