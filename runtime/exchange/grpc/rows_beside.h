// Rows of a grpc link that travel beside its stream: what both ends do with a RowCarrier. Without
// one rows are in the messages.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_ROWS_BESIDE_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_ROWS_BESIDE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/exchange.pb.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/row_carrier.h"
#include "runtime/exchange/row_memory.h"

namespace ccoe::exchange {

// What an accepting end with `carriers` (null: none) says to a peer that asked.
v1::Carrier OfferCarrier(RowCarrierFactory* carriers, const v1::RowsBesideStream& asked);

// One thread may send while another receives. Abort may come from any.
class RowsBeside {
 public:
  RowsBeside() = default;  // none

  // Both ends connect at the same time.
  absl::Status Connect(RowCarrierFactory& carriers, const std::string& id, bool opener,
                       absl::Duration timeout);
  // Rows are received into host memory alone: whoever computes here reads no others.
  void KeepOffDevice() { memory_ = nullptr; }

  bool active() const { return carrier_ != nullptr; }
  // Where rows may lie that are sent, and are received where there is room; null: host memory.
  RowMemory* memory() const { return memory_; }

  // One swap's rows: `device` where they lie there, else `bytes`.
  absl::Status Send(const RowBlock& device, const std::string& bytes);
  // The rows of a swap, in device memory, or, where no block comes back, in `bytes`.
  absl::StatusOr<RowBlock> Receive(const RowFormat& format, int64_t rows, std::string& bytes);

  void Abort();

 private:
  std::unique_ptr<RowCarrier> carrier_;
  RowMemory* memory_ = nullptr;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_ROWS_BESIDE_H_
