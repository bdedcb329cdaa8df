// The swaps in flight: sends them, knows who waits for what, and gives up on links that never
// answer.
#ifndef CCOE_RUNTIME_ENGINE_SWAP_BOARD_H_
#define CCOE_RUNTIME_ENGINE_SWAP_BOARD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "kernels/dtype.h"
#include "runtime/engine/request_queue.h"
#include "runtime/engine/patience.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/micro_batch.h"
#include "runtime/exchange/row_block.h"

namespace ccoe::engine {

struct SwapFlight {
  uint64_t id = 0;  // rises over the engine's life; the header's step_id
  std::shared_ptr<Step> step;
  std::shared_ptr<const ExpertBinding> binding;
  exchange::StepHeader header;
  std::vector<StepEntry> entries;  // as in the header
  absl::Time sent, deadline;

  // "expert math@1 over local, swap 12, layers [4, 8)", for messages.
  std::string Describe() const;
};

struct SwapBoardOptions {
  int64_t hidden_size = 0;
  int32_t layer_count = 0;
  kernels::DType wire_dtype = kernels::DType::kF32;
  absl::Duration swap_timeout;
  absl::Duration step_patience;
};

// Used by the engine's thread alone; the answers come through `inbox`.
class SwapBoard {
 public:
  SwapBoard(const SwapBoardOptions& options, std::shared_ptr<RequestQueue> inbox);

  // The next id; also for swaps that are not this board's.
  uint64_t TakeId() { return ++last_id_; }

  // Sends the entries' rows [sum of row_count, hidden_size], owned: f32 of host memory, or of the
  // link's device in the wire dtype.
  void Send(std::shared_ptr<Step> step, std::shared_ptr<const ExpertBinding> binding,
            std::vector<StepEntry> entries, const exchange::RowBlock& rows);

  // The flight of an answer; nullopt for one that was given up. Its step has one swap in flight
  // less.
  std::optional<SwapFlight> Land(uint64_t swap_id, absl::Time now);

  // Swaps whose link broke its word and called nothing long after the deadline.
  std::vector<uint64_t> Overdue(absl::Time now) const;

  // Adds the steps that are still worth waiting for to `occupancy`, see
  // EngineOptions::step_patience.
  void Count(absl::Time now, Occupancy& occupancy) const;
  // When the next of them stops being so, or a swap gets overdue.
  absl::Time NextEvent(absl::Time now) const;

  // Bytes of `rows` rows on the wire.
  int64_t WireBytes(int64_t rows) const;

 private:
  const SwapBoardOptions options_;
  const std::shared_ptr<RequestQueue> inbox_;
  std::map<uint64_t, SwapFlight> flights_;
  uint64_t last_id_ = 0;
  Patience patience_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_SWAP_BOARD_H_
