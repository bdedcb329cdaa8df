#include "runtime/exchange/grpc/rows_beside.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::exchange {
namespace {

constexpr size_t kMaxVersionBytes = 64;

}  // namespace

v1::Carrier OfferCarrier(RowCarrierFactory* carriers, const v1::RowsBesideStream& asked) {
  v1::Carrier carrier;
  if (carriers == nullptr) {
    carrier.set_refusal("this worker takes rows in messages only");
    return carrier;
  }
  const std::string version = carriers->Version();
  if (asked.version() != version) {
    carrier.set_refusal(absl::StrCat("this worker has ", version, ", the peer ",
                                     asked.version().substr(0, kMaxVersionBytes)));
    return carrier;
  }
  absl::StatusOr<std::string> id = carriers->MakeId();
  if (id.ok()) {
    carrier.set_id(*std::move(id));
  } else {
    carrier.set_refusal(std::string(id.status().message()));
  }
  return carrier;
}

absl::Status RowsBeside::Connect(RowCarrierFactory& carriers, const std::string& id, bool opener,
                                 absl::Duration timeout) {
  auto carrier = carriers.Connect(id, opener, timeout);
  if (!carrier.ok()) {
    return Annotate(carrier.status(), absl::StrCat("rows over ", carriers.Version()));
  }
  carrier_ = *std::move(carrier);
  memory_ = carriers.memory();
  return absl::OkStatus();
}

absl::Status RowsBeside::Send(const RowBlock& device, const std::string& bytes) {
  if (device.on_device()) return carrier_->SendRows(device);
  return bytes.empty() ? absl::OkStatus() : carrier_->Send(bytes);
}

absl::StatusOr<RowBlock> RowsBeside::Receive(const RowFormat& format, int64_t rows,
                                             std::string& bytes) {
  if (!bytes.empty()) {
    return absl::InvalidArgumentError("rows in the message, which travel beside the stream");
  }
  if (rows == 0) return RowBlock();
  if (memory_ != nullptr) {
    // Without room they take the way through host memory.
    auto fresh = memory_->Take(rows, format.hidden_size, format.dtype);
    if (fresh.ok()) {
      CCOE_RETURN_IF_ERROR(carrier_->ReceiveRows(*fresh));
      return std::move(fresh->block);
    }
  }
  bytes.resize(static_cast<size_t>(rows * format.hidden_size) * kernels::DTypeBytes(format.dtype));
  CCOE_RETURN_IF_ERROR(carrier_->Receive(bytes));
  return RowBlock();
}

void RowsBeside::Abort() {
  if (carrier_ != nullptr) carrier_->Abort();
}

}  // namespace ccoe::exchange
