// SPDX-License-Identifier: Apache-2.0
// Rows of a grpc link that travel beside its stream: what both ends do with a RowCarrier. Without
// one rows are in the messages.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_ROWS_BESIDE_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_ROWS_BESIDE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/exchange.pb.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/row_carrier.h"

namespace ccoe::exchange {

// What an accepting end with `carriers` (null: none) says to a peer that asked.
v1::Carrier OfferCarrier(RowCarrierFactory* carriers, const v1::RowsBesideStream& asked);

// Rows that came beside the stream: in device memory, or as f32 of host memory.
struct ArrivedRows {
  RowBlock device;
  std::vector<float> host;

  RowBlock Block() && { return device.on_device() ? std::move(device) : RowBlock(std::move(host)); }
};

// One end's. Thread-safe, but for KeepOffDevice.
class RowsBeside {
 public:
  // Connects; both ends do at the same time. `send_note` carries the carrier's words to the peer.
  static absl::StatusOr<std::unique_ptr<RowsBeside>> Connect(RowCarrierFactory& carriers,
                                                             const std::string& id, bool opener,
                                                             absl::Duration timeout,
                                                             RowCarrier::SendNote send_note);
  // Aborts, then waits until all that was called for has been called.
  ~RowsBeside() = default;

  // Rows are received into host memory alone: whoever computes here reads no others.
  void KeepOffDevice() { memory_ = nullptr; }

  // Where rows may lie that are sent, and are received where there is room; null: host memory.
  RowMemory* memory() const { return memory_; }

  // One swap's rows: `device` where they lie there, else `bytes`; may be none. `failed` is called
  // where they did not get there.
  using Failed = absl::AnyInvocable<void(const absl::Status&)>;
  void Send(RowBlock device, std::string bytes, Failed failed);
  // The rows of a swap, 1 or more.
  using Arrived = absl::AnyInvocable<void(absl::StatusOr<ArrivedRows>)>;
  void Receive(const RowFormat& format, int64_t rows, Arrived arrived);

  void Abort() { carrier_->Abort(); }

 private:
  friend absl::Status TakeNote(const v1::CarrierNote& note, RowsBeside* beside);
  RowsBeside(std::unique_ptr<RowCarrier> carrier, RowMemory* memory)
      : carrier_(std::move(carrier)), memory_(memory) {}

  const std::unique_ptr<RowCarrier> carrier_;
  RowMemory* memory_;
};

// The peer's carrier has words for that of `beside`; INVALID_ARGUMENT where it is null.
absl::Status TakeNote(const v1::CarrierNote& note, RowsBeside* beside);

v1::CarrierNote ToWire(const RowCarrier::Note& note);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_ROWS_BESIDE_H_
