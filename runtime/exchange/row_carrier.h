// SPDX-License-Identifier: Apache-2.0
// Carries the rows of a grpc link's swaps beside its stream: headers, answers and signs of life
// stay messages, rows go from device to device, out of host memory or of the device's own.
// Implemented by runtime/exchange/nccl.
#ifndef CCOE_RUNTIME_EXCHANGE_ROW_CARRIER_H_
#define CCOE_RUNTIME_EXCHANGE_ROW_CARRIER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/exchange/row_block.h"

namespace ccoe::exchange {

// Rows on their way, or room for them: in the factory's memory(), or bytes of host memory. The peer
// may hold its side in the other of the two.
struct CarriedRows {
  RowMemory::Fresh device;
  std::string bytes;

  CarriedRows() = default;
  explicit CarriedRows(std::string host) : bytes(std::move(host)) {}
  // To be written to, and then `device.block`.
  explicit CarriedRows(RowMemory::Fresh fresh) : device(std::move(fresh)) {}
  // To be sent alone.
  explicit CarriedRows(RowBlock block) { device.block = std::move(block); }

  bool on_device() const { return device.block.on_device(); }
  size_t size() const { return on_device() ? device.block.bytes() : bytes.size(); }
  // Whoever writes there received it as room.
  void* data() { return on_device() ? const_cast<void*>(device.block.view().data) : bytes.data(); }
};

// One end of one link. What one end sends the other receives, in order and in transfers of the same
// sizes: the link's messages say what comes. Thread-safe; no call waits.
class RowCarrier {
 public:
  virtual ~RowCarrier() = default;  // aborts first, and waits until the last `done` has run

  // Called once, on a thread of the carrier's; must not block. Gives back what was given, with the
  // rows in it where they were received. UNAVAILABLE once the peer is gone, the carrier is aborted
  // or a transfer that both ends have begun makes no progress; nothing can be sent or received from
  // then on. Nobody touches the memory any more.
  using Done = absl::AnyInvocable<void(absl::StatusOr<CarriedRows>)>;

  // Of 1 byte or more.
  virtual void Send(CarriedRows rows, Done done) = 0;
  virtual void Receive(CarriedRows room, Done done) = 0;

  // What one end tells the other by the link's messages, in order with the headers of its swaps.
  struct Note {
    uint64_t round = 0;
    uint32_t sends = 0, receives = 0;
  };
  using SendNote = absl::AnyInvocable<void(const Note&)>;  // must not block
  virtual void Take(const Note& note) = 0;

  // Ends what runs and refuses what comes, soon, whatever the peer does. May come several times.
  virtual void Abort() = 0;
};

// Makes carriers; one for each device and process. Thread-safe; outlives its carriers.
class RowCarrierFactory {
 public:
  virtual ~RowCarrierFactory() = default;

  // Both ends must have the same: "nccl 2.28.9".
  virtual std::string Version() const = 0;

  // Where rows may lie that carriers send and receive in place; null: rows of host memory only.
  // Lives as long as the factory or the last block of it.
  virtual RowMemory* memory() const = 0;

  // What the accepting end makes and the other gets to know, of this one carrier: opaque bytes.
  // RESOURCE_EXHAUSTED where there are as many carriers as there may be.
  virtual absl::StatusOr<std::string> MakeId() = 0;

  // Both ends call it with one id, one of them as the opener; returns when rows have gone both
  // ways. DEADLINE_EXCEEDED without the peer. `send_note` is called until the carrier is gone.
  virtual absl::StatusOr<std::unique_ptr<RowCarrier>> Connect(const std::string& id, bool opener,
                                                              absl::Duration timeout,
                                                              RowCarrier::SendNote send_note) = 0;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_ROW_CARRIER_H_
