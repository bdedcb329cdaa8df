// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/rows_beside.h"

#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/row_block.h"

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

absl::StatusOr<std::unique_ptr<RowsBeside>> RowsBeside::Connect(RowCarrierFactory& carriers,
                                                                const std::string& id, bool opener,
                                                                absl::Duration timeout,
                                                                RowCarrier::SendNote send_note) {
  auto carrier = carriers.Connect(id, opener, timeout, std::move(send_note));
  if (!carrier.ok()) {
    return Annotate(carrier.status(), absl::StrCat("rows over ", carriers.Version()));
  }
  return absl::WrapUnique(new RowsBeside(*std::move(carrier), carriers.memory()));
}

void RowsBeside::Send(RowBlock device, std::string bytes, Failed failed) {
  if (!device.on_device() && bytes.empty()) return;
  CarriedRows rows =
      device.on_device() ? CarriedRows(std::move(device)) : CarriedRows(std::move(bytes));
  carrier_->Send(std::move(rows),
                 [failed = std::move(failed)](absl::StatusOr<CarriedRows> sent) mutable {
                   if (!sent.ok()) failed(sent.status());
                 });
}

void RowsBeside::Receive(const RowFormat& format, int64_t rows, Arrived arrived) {
  CarriedRows room;
  if (memory_ != nullptr) {
    // Without room they take the way through host memory.
    auto fresh = memory_->Take(rows, format.hidden_size, format.dtype);
    if (fresh.ok()) room = CarriedRows(*std::move(fresh));
  }
  if (!room.on_device()) {
    room.bytes.resize(static_cast<size_t>(rows * format.hidden_size) *
                      kernels::DTypeBytes(format.dtype));
  }
  carrier_->Receive(std::move(room), [format, rows, arrived = std::move(arrived)](
                                         absl::StatusOr<CarriedRows> carried) mutable {
    if (!carried.ok()) return arrived(carried.status());
    if (carried->on_device()) return arrived(ArrivedRows{std::move(carried->device.block), {}});
    auto values = DecodeRows(carried->bytes, rows, format.hidden_size, format.dtype);
    if (!values.ok()) return arrived(values.status());
    arrived(ArrivedRows{{}, *std::move(values)});
  });
}

absl::Status TakeNote(const v1::CarrierNote& note, RowsBeside* beside) {
  if (beside == nullptr) {
    return absl::InvalidArgumentError("a carrier's note on a link whose rows are in messages");
  }
  beside->carrier_->Take({note.round(), note.sends(), note.receives()});
  return absl::OkStatus();
}

v1::CarrierNote ToWire(const RowCarrier::Note& note) {
  v1::CarrierNote message;
  message.set_round(note.round);
  message.set_sends(note.sends);
  message.set_receives(note.receives);
  return message;
}

}  // namespace ccoe::exchange
