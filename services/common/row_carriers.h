// How a worker's rows travel to workers in other processes.
#ifndef CCOE_SERVICES_COMMON_ROW_CARRIERS_H_
#define CCOE_SERVICES_COMMON_ROW_CARRIERS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/exchange/row_carrier.h"
#include "services/common/compute.h"

namespace ccoe::services {

enum class RowTransport : uint8_t {
  kAuto,  // NCCL where both ends have it, else messages
  kGrpc,  // in messages
  kNccl,  // NCCL or not at all
};

// "auto", "grpc", "nccl".
absl::StatusOr<RowTransport> ParseRowTransport(absl::string_view text);
absl::string_view RowTransportName(RowTransport transport);

// What links of this process carry rows with; null: messages. FAILED_PRECONDITION for kNccl without
// a GPU to compute with; with kAuto an NCCL that does not work is logged and done without.
absl::StatusOr<std::unique_ptr<exchange::RowCarrierFactory>> MakeRowCarriers(
    RowTransport transport, const Compute& compute);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_ROW_CARRIERS_H_
