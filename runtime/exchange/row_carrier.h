// Carries the rows of a grpc link's swaps beside its stream: headers, answers and signs of life
// stay messages, rows go from device to device, out of host memory or of the device's own.
// Implemented by runtime/exchange/nccl.
#ifndef CCOE_RUNTIME_EXCHANGE_ROW_CARRIER_H_
#define CCOE_RUNTIME_EXCHANGE_ROW_CARRIER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/row_memory.h"

namespace ccoe::exchange {

// One end of one link. What one end sends the other receives, in order and in pieces of the same
// sizes: the link's messages say what comes. One thread may send while another receives.
class RowCarrier {
 public:
  virtual ~RowCarrier() = default;  // aborts first

  // UNAVAILABLE once the peer is gone, the carrier is aborted or a transfer has made no progress
  // for the carrier's patience; nothing can be sent or received from then on.
  virtual absl::Status Send(absl::string_view bytes) = 0;
  // Fills `bytes`, whose size says how much comes.
  virtual absl::Status Receive(std::string& bytes) = 0;

  // The same of rows in the factory's memory(), which neither end passes through host memory; the
  // peer may hold its side in host memory all the same. After an error the carrier keeps the block
  // for as long as a transfer may still touch it.
  virtual absl::Status SendRows(const RowBlock& rows) = 0;
  virtual absl::Status ReceiveRows(const RowMemory::Fresh& rows) = 0;

  // Ends what runs and refuses what comes, soon, whatever the peer does. From any thread, several
  // times.
  virtual void Abort() = 0;
};

// Makes carriers; one for each device and process. Thread-safe; outlives its carriers.
class RowCarrierFactory {
 public:
  virtual ~RowCarrierFactory() = default;

  // Both ends must have the same: "nccl 2.28.9".
  virtual std::string Version() const = 0;

  // Where rows may lie that carriers send and receive in place; null: SendRows and ReceiveRows are
  // not to be called. Lives as long as the factory or the last block of it.
  virtual RowMemory* memory() const = 0;

  // What the accepting end makes and the other gets to know, of this one carrier: opaque bytes.
  virtual absl::StatusOr<std::string> MakeId() = 0;

  // Both ends call it with one id, one of them as the opener; returns when rows have gone both
  // ways. DEADLINE_EXCEEDED without the peer.
  virtual absl::StatusOr<std::unique_ptr<RowCarrier>> Connect(const std::string& id, bool opener,
                                                              absl::Duration timeout) = 0;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_ROW_CARRIER_H_
