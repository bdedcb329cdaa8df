// SPDX-License-Identifier: Apache-2.0
// One link as the device's thread drives it: its communicator, its rounds, its transfers.
#ifndef CCOE_RUNTIME_EXCHANGE_NCCL_LINK_DRIVER_H_
#define CCOE_RUNTIME_EXCHANGE_NCCL_LINK_DRIVER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/exchange/nccl/communicator.h"
#include "runtime/exchange/nccl/link_rounds.h"
#include "runtime/exchange/row_carrier.h"

namespace ccoe::exchange {

// Of one thread. It fails once; once its kernels have ended, Bury frees what it held and tells
// whoever waits.
class LinkDriver {
 public:
  // Called once: when rows can go, or why they never will.
  using Opened = absl::AnyInvocable<void(absl::Status)>;

  struct Options {
    bool leads = false;
    absl::Duration patience;
    RowCarrier::SendNote send_note;
    Opened opened;
  };

  LinkDriver(std::unique_ptr<Communicator> communicator, Options options);

  void Send(CarriedRows rows, RowCarrier::Done done);
  void Receive(CarriedRows room, RowCarrier::Done done);
  void Take(const RowCarrier::Note& note);
  // Nothing goes any more; NCCL's kernels end. All links that fail at once fail before one is
  // buried.
  void Fail(absl::Status why);

  // Gets on as far as it can without waiting. Whether it is under way: opening, in a round, or
  // dying.
  bool Step(absl::Time now);

  bool failed() const { return !failure_.ok(); }
  // Failed, and its kernels have ended, or had the time to.
  bool Dead(absl::Time now);
  void Bury();
  // Called when it is buried; at once where it is.
  void OnBuried(absl::AnyInvocable<void()> then);

 private:
  struct Transfer {
    CarriedRows rows;
    RowCarrier::Done done;
  };
  using Pieces = std::vector<LinkRounds::Piece>;

  void Add(CarriedRows rows, RowCarrier::Done done, bool sends);
  // Whether the round that runs is through.
  bool RoundIsOver(absl::Time now);
  void PostNext();
  std::vector<Communicator::Part> PartsOf(const Pieces& pieces);
  void Finish(const Pieces& pieces);

  std::unique_ptr<Communicator> communicator_;
  Options options_;
  LinkRounds rounds_;
  std::map<uint64_t, Transfer> transfers_;
  uint64_t last_transfer_ = 0;
  bool open_ = false;
  std::optional<LinkRounds::Round> running_;
  std::optional<absl::Time> both_posted_;  // the round that runs, as far as is known here
  absl::Status failure_;
  std::optional<absl::Time> dying_since_;
  bool buried_ = false;
  absl::AnyInvocable<void()> on_buried_;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_NCCL_LINK_DRIVER_H_
