// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/nccl/link_driver.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ccoe::exchange {
namespace {

constexpr absl::Duration kRevokeTime = absl::Milliseconds(500);

}  // namespace

LinkDriver::LinkDriver(std::unique_ptr<Communicator> communicator, Options options)
    : communicator_(std::move(communicator)),
      options_(std::move(options)),
      rounds_(options_.leads) {
  absl::Status begun = communicator_->Begin();
  if (!begun.ok()) Fail(std::move(begun));
}

void LinkDriver::Add(CarriedRows rows, RowCarrier::Done done, bool sends) {
  if (failed()) return done(failure_);
  const uint64_t id = ++last_transfer_;
  const size_t bytes = rows.size();
  transfers_[id] = {std::move(rows), std::move(done)};
  sends ? rounds_.AddSend(id, bytes) : rounds_.AddReceive(id, bytes);
}

void LinkDriver::Send(CarriedRows rows, RowCarrier::Done done) {
  Add(std::move(rows), std::move(done), /*sends=*/true);
}

void LinkDriver::Receive(CarriedRows room, RowCarrier::Done done) {
  Add(std::move(room), std::move(done), /*sends=*/false);
}

void LinkDriver::Take(const RowCarrier::Note& note) {
  absl::Status good = rounds_.Take(note);
  if (!good.ok()) Fail(std::move(good));
}

void LinkDriver::Fail(absl::Status why) {
  if (failed()) return;
  failure_ = absl::UnavailableError(why.message());
  communicator_->Revoke();
}

void LinkDriver::Bury() {
  // First the communicator: its kernels may write to the transfers' memory until it is gone.
  communicator_ = nullptr;
  if (options_.opened) std::exchange(options_.opened, nullptr)(failure_);
  std::map<uint64_t, Transfer> transfers;
  transfers.swap(transfers_);
  for (auto& [id, transfer] : transfers) transfer.done(failure_);
  buried_ = true;
  if (on_buried_) on_buried_();
}

void LinkDriver::OnBuried(absl::AnyInvocable<void()> then) {
  if (buried_) return then();
  on_buried_ = std::move(then);
}

bool LinkDriver::Step(absl::Time now) {
  if (failed()) return true;
  if (!open_) {
    const absl::StatusOr<bool> met = communicator_->Poll();
    if (!met.ok()) Fail(met.status());
    if (!met.ok() || !*met) return true;
    open_ = true;
    std::exchange(options_.opened, nullptr)(absl::OkStatus());
  }
  while (!failed()) {
    if (running_.has_value() && !RoundIsOver(now)) return true;
    PostNext();
    if (!running_.has_value()) return failed();
  }
  return true;
}

bool LinkDriver::Dead(absl::Time now) {
  if (!failed()) return false;
  if (!dying_since_.has_value()) dying_since_ = now;
  return communicator_->Revoked() || now - *dying_since_ >= kRevokeTime;
}

bool LinkDriver::RoundIsOver(absl::Time now) {
  const absl::StatusOr<bool> done = communicator_->Poll();
  if (!done.ok()) {
    Fail(done.status());
    return false;
  }
  if (*done) {
    const LinkRounds::Round round = *std::exchange(running_, std::nullopt);
    rounds_.Ended();
    Finish(round.sends);
    Finish(round.receives);
    return true;
  }
  // The kernel waits for the peer's as long as it takes the peer to post: the link's own watch sees
  // a peer that is gone. From then on rows must travel.
  if (!rounds_.peer_posted()) return false;
  if (!both_posted_.has_value()) both_posted_ = now;
  if (now - *both_posted_ >= options_.patience) {
    Fail(absl::UnavailableError(absl::StrCat(
        "the peer's rank does not take part: round ", running_->number, " is not through ",
        absl::FormatDuration(options_.patience), " after both ends have posted it")));
  }
  return false;
}

void LinkDriver::PostNext() {
  std::optional<LinkRounds::Round> round = rounds_.Next();
  if (!round.has_value()) return;
  const absl::Status posted = communicator_->Post(PartsOf(round->sends), PartsOf(round->receives));
  if (!posted.ok()) return Fail(posted);
  options_.send_note(round->note());
  running_ = std::move(round);
  both_posted_.reset();
}

std::vector<Communicator::Part> LinkDriver::PartsOf(const Pieces& pieces) {
  std::vector<Communicator::Part> parts;
  for (const LinkRounds::Piece& piece : pieces) {
    CarriedRows& rows = transfers_.at(piece.transfer).rows;
    parts.push_back(
        {static_cast<char*>(rows.data()) + piece.offset, piece.bytes, rows.on_device()});
  }
  return parts;
}

void LinkDriver::Finish(const Pieces& pieces) {
  for (const LinkRounds::Piece& piece : pieces) {
    if (!piece.last) continue;
    auto transfer = transfers_.extract(piece.transfer);
    transfer.mapped().done(std::move(transfer.mapped().rows));
  }
}

}  // namespace ccoe::exchange
