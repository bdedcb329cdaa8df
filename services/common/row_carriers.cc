// SPDX-License-Identifier: Apache-2.0
#include "services/common/row_carriers.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "runtime/exchange/nccl/nccl_carriers.h"

namespace ccoe::services {

absl::StatusOr<RowTransport> ParseRowTransport(absl::string_view text) {
  for (const RowTransport transport :
       {RowTransport::kAuto, RowTransport::kGrpc, RowTransport::kNccl}) {
    if (text == RowTransportName(transport)) return transport;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("exchange: expected auto, grpc or nccl, found \"", text, "\""));
}

absl::string_view RowTransportName(RowTransport transport) {
  switch (transport) {
    case RowTransport::kAuto:
      return "auto";
    case RowTransport::kGrpc:
      return "grpc";
    case RowTransport::kNccl:
      return "nccl";
  }
  return "";
}

int64_t RowMemoryBytes(RowTransport transport, bool local, const Compute& compute) {
  if (compute.device().ReadsHostMemory()) return 0;
  const exchange::NcclOptions options;
  if (transport == RowTransport::kGrpc) {
    return local ? static_cast<int64_t>(options.memory_bytes) : 0;
  }
  return static_cast<int64_t>(exchange::NcclBytes(options));
}

absl::StatusOr<std::shared_ptr<exchange::RowMemory>> MakeLocalRowMemory(
    exchange::RowCarrierFactory* carriers, const Compute& compute) {
  if (compute.device().ReadsHostMemory()) return nullptr;
  if (carriers != nullptr && carriers->memory() != nullptr) {
    return carriers->memory()->shared_from_this();
  }
  return exchange::RowMemory::Create(&compute.device(), exchange::NcclOptions().memory_bytes);
}

absl::StatusOr<std::unique_ptr<exchange::RowCarrierFactory>> MakeRowCarriers(
    RowTransport transport, const Compute& compute) {
  if (transport == RowTransport::kGrpc) return nullptr;
  if (!compute.cuda_device().has_value()) {
    if (transport == RowTransport::kAuto) return nullptr;
    return absl::FailedPreconditionError(
        "exchange over NCCL: rows go from GPU to GPU: expected --device cuda, found cpu");
  }
  exchange::NcclOptions options;
  options.device = *compute.cuda_device();
  options.memory_device = &compute.device();
  auto carriers = exchange::MakeNcclCarriers(options);
  if (carriers.ok() || transport == RowTransport::kNccl) return carriers;
  LOG(WARNING) << "rows travel in messages: " << carriers.status().message();
  return nullptr;
}

}  // namespace ccoe::services
