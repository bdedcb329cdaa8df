// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/server_link.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/grpc/wire_messages.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/swap_result.h"

namespace ccoe::exchange {
namespace {

// Beside the answers of swaps: heartbeats' and the OpenAccepted.
constexpr size_t kSpareReplies = 64;
constexpr absl::Duration kLastWriteTime = absl::Seconds(1);
// Envelopes, which credits bound, and releases that came behind them.
constexpr size_t kMaxArrivals = 1 << 16;

LinkWriter::Options WriterOptions(const ServerLinkOptions& options, LinkThread* thread) {
  LinkWriter::Options writer;
  writer.thread = thread;
  writer.max_items = static_cast<size_t>(options.grant.credit.swaps) + kSpareReplies;
  return writer;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

ServerLink::ServerLink(SwapHandler* handler, const ServerLinkOptions& options,
                       grpc::CallbackServerContext* context)
    : handler_(handler),
      options_(options),
      peer_(handler->AddPeer()),
      context_(context),
      writer_(WriterOptions(options, &thread_)) {}

void ServerLink::Run() {
  const absl::Status end = Serve();
  writer_.Close();  // what still waits to be sent has no reader
  if (beside_ != nullptr) beside_->Abort();
  // A peer that reads nothing more could hold up a write for good.
  if (!writer_.AwaitDone(kLastWriteTime)) Cancel(end);
  writer_.AwaitDone(absl::InfiniteDuration());
  beside_ = nullptr;  // from now on nothing gets to the handler
  handler_->RemovePeer(peer_);
  // Nothing is being read or written. The status may take long to leave, where nobody reads.
  Finish(ToGrpcStatus(end));
  over_.WaitForNotification();
}

absl::Status ServerLink::Serve() {
  StartRead(&message_);
  if (!first_read_.WaitForNotificationWithTimeout(options_.open_timeout)) {
    Cancel(absl::DeadlineExceededError("the link ended before its OpenLink came"));
    first_read_.WaitForNotification();
    return WhyCancelled();
  }
  if (!has_first_) {
    CCOE_RETURN_IF_ERROR(WhyCancelled());
    return absl::DeadlineExceededError("the link ended before its OpenLink came");
  }
  CCOE_RETURN_IF_ERROR(Accept(message_));
  StartRead(&message_);
  ended_.WaitForNotification();
  CCOE_RETURN_IF_ERROR(broke_);
  return WhyCancelled();
}

void ServerLink::Cancel(const absl::Status& why) {
  absl::MutexLock lock(&cancel_mutex_);
  if (cancelled_.ok()) cancelled_ = why;
  if (context_ != nullptr) context_->TryCancel();
}

absl::Status ServerLink::WhyCancelled() const {
  absl::MutexLock lock(&cancel_mutex_);
  return cancelled_;
}

void ServerLink::OnReadDone(bool ok) {
  if (!first_read_.HasBeenNotified()) {
    has_first_ = ok;
    return first_read_.Notify();  // Serve goes on
  }
  if (!ok) return ended_.Notify();
  if (static_cast<int64_t>(message_.ByteSizeLong()) <= LinkThread::kLargeBytes) {
    return TakeMessage();
  }
  thread_.Run([this] { TakeMessage(); });
}

void ServerLink::TakeMessage() {
  broke_ = Take(message_);
  message_.Clear();  // its rows take up room
  if (broke_.ok()) return StartRead(&message_);
  ended_.Notify();
}

void ServerLink::OnWriteDone(bool ok) {
  reply_.Clear();  // its rows take up room
  writer_.Written(ok);
  if (!ok) Cancel(absl::OkStatus());  // a stream that cannot be written is not read any more
}

void ServerLink::OnDone() {
  {
    absl::MutexLock lock(&cancel_mutex_);
    context_ = nullptr;
  }
  over_.Notify();
}

LinkIdentity ServerLink::Identity() const {
  LinkIdentity identity = options_.identity;
  identity.hidden_size = handler_->hidden_size();
  identity.numerics = handler_->numerics();
  return identity;
}

absl::Status ServerLink::Accept(const v1::LinkMessage& first) {
  if (!first.has_open())
    return absl::InvalidArgumentError("the first message of a link: expected OpenLink");
  const LinkIdentity identity = Identity();
  CCOE_RETURN_IF_ERROR(CheckOpen(first.open(), identity));
  v1::Carrier carrier;
  if (first.open().has_rows_beside_stream()) {
    carrier = OfferCarrier(options_.carriers, first.open().rows_beside_stream());
  }
  Push(0, [this, accepted = MakeAccepted(identity, options_.epoch, options_.grant, carrier)] {
    v1::LinkReply reply;
    *reply.mutable_accepted() = accepted;
    return WriteReply(std::move(reply));
  });
  if (carrier.id().empty()) return absl::OkStatus();
  // The peer does the same when it has read the OpenAccepted.
  CCOE_ASSIGN_OR_RETURN(
      beside_, RowsBeside::Connect(*options_.carriers, carrier.id(), /*opener=*/false,
                                   options_.carrier_timeout, [this](const RowCarrier::Note& note) {
                                     writer_.PushUrgent([this, note] {
                                       v1::LinkReply reply;
                                       *reply.mutable_carrier_note() = ToWire(note);
                                       return WriteReply(std::move(reply));
                                     });
                                   }));
  const RowMemory* const memory = beside_->memory();
  if (memory != nullptr && memory->device() != handler_->device()) beside_->KeepOffDevice();
  return absl::OkStatus();
}

absl::Status ServerLink::Take(const v1::LinkMessage& message) {
  switch (message.message_case()) {
    case v1::LinkMessage::kEnvelope:
      return TakeEnvelope(message.envelope());
    case v1::LinkMessage::kRelease:
      return TakeRelease(message.release().sequence_id());
    case v1::LinkMessage::kHeartbeat:
      return TakeHeartbeat(message.heartbeat());
    case v1::LinkMessage::kCancel:
      return TakeCancel(message.cancel());
    case v1::LinkMessage::kCarrierNote:
      return TakeNote(message.carrier_note(), beside_.get());
    case v1::LinkMessage::kOpen:
      return absl::InvalidArgumentError("a second OpenLink on one link");
    default:
      return absl::InvalidArgumentError(
          "a message that is neither envelope, release, cancel nor heartbeat");
  }
}

absl::Status ServerLink::TakeHeartbeat(const v1::Heartbeat& heartbeat) {
  if (heartbeat.number() <= last_heartbeat_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "heartbeat: expected a number above ", last_heartbeat_, ", found ", heartbeat.number()));
  }
  last_heartbeat_ = heartbeat.number();
  const bool queued = writer_.PushUrgent([this, number = last_heartbeat_] {
    v1::LinkReply reply;
    *reply.mutable_heartbeat() = ToWire(number, handler_->Progress(), taken_in_.load());
    return WriteReply(std::move(reply));
  });
  if (queued || writer_.closed()) return absl::OkStatus();
  return absl::ResourceExhaustedError("the peer does not read its answers: too many wait");
}

absl::Status ServerLink::TakeCancel(const v1::Cancel& cancel) {
  if (cancel.swap_ids_size() > options_.grant.credit.swaps) {
    return absl::InvalidArgumentError(absl::StrCat("cancel: expected at most ",
                                                   options_.grant.credit.swaps, " swaps, found ",
                                                   cancel.swap_ids_size()));
  }
  handler_->HandleCancel(peer_, {cancel.swap_ids().begin(), cancel.swap_ids().end()});
  return absl::OkStatus();
}

absl::Status ServerLink::CheckIds(const v1::Envelope& message) {
  const int64_t most = options_.grant.credit.swaps;
  if (message.swaps_size() < 1 || message.swaps_size() > most) {
    return absl::InvalidArgumentError(absl::StrCat("swaps of step ", message.step_id(),
                                                   ": expected 1 to ", most, ", found ",
                                                   message.swaps_size()));
  }
  uint64_t last = last_id_;
  for (const v1::SwapRequest& swap : message.swaps()) {
    if (swap.id() <= last) {
      return absl::InvalidArgumentError(
          absl::StrCat("swap id: expected more than ", last, ", found ", swap.id()));
    }
    last = swap.id();
  }
  return absl::OkStatus();
}

absl::Status ServerLink::TakeEnvelope(const v1::Envelope& message) {
  CCOE_RETURN_IF_ERROR(CheckIds(message));
  CCOE_ASSIGN_OR_RETURN(const RowFormat format, FormatOf(message));
  auto arrival = std::make_shared<Arrival>();
  Envelope& envelope = arrival->envelope;
  envelope.step_id = message.step_id();
  envelope.swaps.reserve(static_cast<size_t>(message.swaps_size()));
  for (const v1::SwapRequest& request : message.swaps()) {
    CCOE_RETURN_IF_ERROR(TakeSwap(request, format, envelope));
  }
  CCOE_RETURN_IF_ERROR(CheckSums(envelope));
  last_id_ = arrival->last_id = message.swaps(message.swaps_size() - 1).id();
  arrival->missing = beside_ == nullptr ? 0 : envelope.swaps.size();
  CCOE_RETURN_IF_ERROR(Queue(arrival));
  if (arrival->missing > 0) ReceiveRows(arrival);
  Deliver();
  return absl::OkStatus();
}

absl::Status ServerLink::TakeRelease(uint64_t sequence_id) {
  auto arrival = std::make_shared<Arrival>();
  arrival->sequence_id = sequence_id;
  arrival->release = true;
  CCOE_RETURN_IF_ERROR(Queue(std::move(arrival)));
  Deliver();
  return absl::OkStatus();
}

absl::Status ServerLink::TakeSwap(const v1::SwapRequest& request, const RowFormat& format,
                                  Envelope& envelope) {
  absl::StatusOr<SwapHeader> header = FromWire(request, format);
  absl::Status good = header.status();
  if (good.ok()) good = Validate(*header, handler_->hidden_size(), options_.grant.limits);
  if (good.ok()) good = CheckFitsMessage(*header);
  const std::string name = absl::StrCat("swap ", request.id());
  if (!good.ok()) {
    good = Annotate(good, name);
    // The rows beside the stream are on their way, and nobody knows how many there are.
    if (beside_ != nullptr) return good;
    const SwapCredit cost = {static_cast<int64_t>(request.rows().size()), 1};
    CCOE_RETURN_IF_ERROR(Charge(envelope.step_id, cost));
    SwapHeader refused;
    refused.id = request.id();
    Reply(refused, cost, good);
    return absl::OkStatus();
  }
  CCOE_RETURN_IF_ERROR(Charge(envelope.step_id, CostOf(*header)));
  absl::StatusOr<std::vector<float>> rows = DecodeRows(
      request.rows(), beside_ != nullptr ? 0 : header->rows(), format.hidden_size, format.dtype);
  if (!rows.ok()) return Annotate(rows.status(), name);
  envelope.swaps.push_back({*std::move(header), {RowBlock(*std::move(rows)), {}}});
  return absl::OkStatus();
}

absl::Status ServerLink::Queue(std::shared_ptr<Arrival> arrival) {
  absl::MutexLock lock(&mutex_);
  if (arrivals_.size() >= kMaxArrivals) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", kMaxArrivals, " messages wait for rows beside the stream"));
  }
  arrivals_.push_back(std::move(arrival));
  return absl::OkStatus();
}

void ServerLink::ReceiveRows(const std::shared_ptr<Arrival>& arrival) {
  // The last one to come may hand the envelope on: what is asked for is noted first.
  std::vector<std::pair<RowFormat, int64_t>> wanted;
  for (const Swap& swap : arrival->envelope.swaps) {
    wanted.emplace_back(swap.header.format, swap.header.rows());
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    beside_->Receive(wanted[i].first, wanted[i].second,
                     [this, arrival, i](absl::StatusOr<ArrivedRows> rows) {
                       TakeRows(*arrival, i, std::move(rows));
                       Deliver();
                     });
  }
}

void ServerLink::TakeRows(Arrival& arrival, size_t swap, absl::StatusOr<ArrivedRows> rows) {
  if (!rows.ok()) return Cancel(rows.status());
  absl::MutexLock lock(&mutex_);
  arrival.envelope.swaps[swap].rows.block = (*std::move(rows)).Block();
  --arrival.missing;
}

void ServerLink::Deliver() {
  {
    absl::MutexLock lock(&mutex_);
    if (delivering_) return;  // whoever does goes on until nothing is left
    delivering_ = true;
  }
  while (true) {
    std::shared_ptr<Arrival> next;
    {
      absl::MutexLock lock(&mutex_);
      if (arrivals_.empty() || arrivals_.front()->missing > 0) {
        delivering_ = false;
        return;
      }
      next = std::move(arrivals_.front());
      arrivals_.pop_front();
    }
    Hand(*next);
  }
}

void ServerLink::Hand(Arrival& arrival) {
  if (arrival.release) return handler_->HandleRelease(peer_, arrival.sequence_id);
  if (!arrival.envelope.swaps.empty()) {
    auto headers = std::make_shared<std::vector<SwapHeader>>();
    for (const Swap& swap : arrival.envelope.swaps) headers->push_back(swap.header);
    handler_->HandleEnvelope(
        peer_, std::move(arrival.envelope),
        [this, headers = Headers(std::move(headers))](uint64_t id,
                                                      absl::StatusOr<SwapResult> result) {
          const auto header = std::lower_bound(
              headers->begin(), headers->end(), id,
              [](const SwapHeader& each, uint64_t wanted) { return each.id < wanted; });
          Reply(*header, CostOf(*header), std::move(result));
        });
  }
  taken_in_ = arrival.last_id;
}

absl::Status ServerLink::CheckSums(const Envelope& envelope) const {
  const EnvelopeLimits& limits = options_.grant.limits;
  int64_t rows = 0, sequences = 0;
  for (const Swap& swap : envelope.swaps) {
    rows += swap.header.rows();
    if (const LayerSwap* layer = swap.header.layer()) {
      sequences += static_cast<int64_t>(layer->sequences.size());
    }
  }
  if (rows <= limits.max_rows && sequences <= limits.max_sequences) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "envelope of step ", envelope.step_id, ": expected at most ", limits.max_rows, " rows and ",
      limits.max_sequences, " sequences, found ", rows, " and ", sequences));
}

absl::Status ServerLink::Charge(uint64_t step_id, const SwapCredit& cost) {
  const SwapCredit& granted = options_.grant.credit;
  const SwapCredit after = {charged_bytes_.fetch_add(cost.bytes) + cost.bytes,
                            charged_swaps_.fetch_add(cost.swaps) + cost.swaps};
  if (granted.Covers(after)) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "more than the credits of this link: with step ", step_id, " ", after.swaps, " swaps of ",
      after.bytes, " bytes are outstanding, at most ", granted.swaps, " and ", granted.bytes));
}

void ServerLink::Discharge(const SwapCredit& cost) {
  charged_bytes_.fetch_sub(cost.bytes);
  charged_swaps_.fetch_sub(cost.swaps);
}

void ServerLink::Reply(const SwapHeader& header, const SwapCredit& cost,
                       absl::StatusOr<SwapResult> result) {
  const bool encodes = result.ok() && !result->device_rows.on_device();
  const int64_t bytes = encodes ? SizeOf(header).returned : 0;
  Push(bytes, [this, header, cost, result = std::move(result)] {
    // Before it is written: the peer may use its credit as soon as it reads the answer.
    Discharge(cost);
    return WriteAnswer(header, result);
  });
}

void ServerLink::Push(int64_t bytes, LinkWriter::Write write) {
  // There is room for the answers of all that the credits let in; else the handler answers twice.
  if (!writer_.Push({}, bytes, std::move(write))) CCOE_CHECK(writer_.closed());
}

bool ServerLink::WriteAnswer(const SwapHeader& header, const absl::StatusOr<SwapResult>& result) {
  v1::LinkReply reply;
  v1::SwapAnswer& answer = *reply.mutable_answer();
  ToWire(header, result, answer);
  if (beside_ == nullptr || answer.reason() != v1::SWAP_REASON_NONE) {
    return WriteReply(std::move(reply));
  }
  std::string rows = std::move(*answer.mutable_rows());
  answer.clear_rows();
  // Before the write can end, and another answer's rows come first.
  beside_->Send(result->device_rows, std::move(rows),
                [this](const absl::Status& why) { Cancel(why); });
  return WriteReply(std::move(reply));
}

}  // namespace ccoe::exchange
