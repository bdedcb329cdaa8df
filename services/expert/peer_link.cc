#include "services/expert/peer_link.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/grpc/wire_messages.h"
#include "runtime/exchange/row_codec.h"

namespace ccoe::services {
namespace {

// Beside the answers of accepted swaps: those of refused ones and the OpenAccepted.
constexpr size_t kSpareReplies = 64;
constexpr size_t kMaxIdBytes = 256;
constexpr absl::Duration kLastWriteTime = absl::Seconds(1);

absl::Status CheckOpen(const v1::OpenLink& open, int64_t hidden_size,
                       const ExchangeServiceOptions& options) {
  if (open.protocol_version() != exchange::kExchangeProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("exchange protocol version: this worker speaks ",
                     exchange::kExchangeProtocolVersion, ", the peer ", open.protocol_version()));
  }
  if (open.worker_id().size() > kMaxIdBytes || open.model_fingerprint().size() > kMaxIdBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "worker_id, model_fingerprint: expected at most ", kMaxIdBytes, " bytes, found ",
        open.worker_id().size(), " and ", open.model_fingerprint().size()));
  }
  if (open.hidden_size() != hidden_size) {
    return absl::FailedPreconditionError(absl::StrCat(
        "hidden_size: this worker's model has ", hidden_size, ", the peer's ", open.hidden_size()));
  }
  if (!open.model_fingerprint().empty() && !options.model_fingerprint.empty() &&
      open.model_fingerprint() != options.model_fingerprint) {
    return absl::FailedPreconditionError(absl::StrCat("model fingerprint: this worker serves ",
                                                      options.model_fingerprint, ", the peer ",
                                                      open.model_fingerprint()));
  }
  return exchange::FromWire(open.wire_dtype()).status();
}

}  // namespace

PeerLink::PeerLink(exchange::SwapHandler* handler, const ExchangeServiceOptions& options,
                   grpc::ServerContext* context, Stream* stream)
    : handler_(handler),
      options_(options),
      context_(context),
      stream_(stream),
      peer_(handler->AddPeer()),
      queue_(options.max_swaps_in_flight + kSpareReplies) {
  writer_ = std::thread([this] { Write(); });
}

PeerLink::~PeerLink() {
  ending_ = true;
  if (carrier_ != nullptr) carrier_->Abort();
  handler_->RemovePeer(peer_);
  queue_.Close();
  // A peer that reads nothing more could hold up a write for good.
  if (!writer_done_.WaitForNotificationWithTimeout(kLastWriteTime)) context_->TryCancel();
  writer_.join();
}

absl::Status PeerLink::Run() {
  v1::LinkMessage message;
  if (!stream_->Read(&message)) {
    return absl::DeadlineExceededError("the link ended before its OpenLink came");
  }
  CCOE_RETURN_IF_ERROR(Accept(message));
  while (stream_->Read(&message)) CCOE_RETURN_IF_ERROR(Take(message));
  if (overflowed_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the peer does not read its answers: more than ", queue_.capacity(), " wait"));
  }
  return absl::OkStatus();
}

absl::Status PeerLink::Accept(const v1::LinkMessage& first) {
  if (!first.has_open())
    return absl::InvalidArgumentError("the first message of a link: expected OpenLink");
  CCOE_RETURN_IF_ERROR(CheckOpen(first.open(), handler_->hidden_size(), options_));
  v1::Carrier carrier;
  if (first.open().has_rows_beside_stream()) {
    carrier = OfferCarrier(first.open().rows_beside_stream());
  }
  queue_.TryPush(Outgoing{true, carrier, 0, {}, exchange::SwapResult()});
  if (carrier.id().empty()) return absl::OkStatus();
  // The peer does the same when it has read the OpenAccepted.
  CCOE_ASSIGN_OR_RETURN(carrier_,
                        options_.carriers->Connect(carrier.id(), /*opener=*/false,
                                                   absl::Now() + options_.carrier_timeout));
  exchange::RowMemory* const memory = options_.carriers->memory();
  if (memory != nullptr && memory->device() == handler_->device()) memory_ = memory;
  return absl::OkStatus();
}

v1::Carrier PeerLink::OfferCarrier(const v1::RowsBesideStream& asked) const {
  v1::Carrier carrier;
  if (options_.carriers == nullptr) {
    carrier.set_refusal("this worker takes rows in messages only");
    return carrier;
  }
  const std::string version = options_.carriers->Version();
  if (asked.version() != version) {
    carrier.set_refusal(absl::StrCat("this worker has ", version, ", the peer ",
                                     asked.version().substr(0, kMaxIdBytes)));
    return carrier;
  }
  absl::StatusOr<std::string> id = options_.carriers->MakeId();
  if (id.ok()) {
    carrier.set_id(*std::move(id));
  } else {
    carrier.set_refusal(std::string(id.status().message()));
  }
  return carrier;
}

absl::Status PeerLink::Take(v1::LinkMessage& message) {
  switch (message.message_case()) {
    case v1::LinkMessage::kSwap:
      return TakeSwap(*message.mutable_swap());
    case v1::LinkMessage::kRelease:
      handler_->HandleRelease(peer_, message.release().sequence_id());
      return absl::OkStatus();
    case v1::LinkMessage::kHeartbeat:
      return TakeHeartbeat(message.heartbeat());
    case v1::LinkMessage::kOpen:
      return absl::InvalidArgumentError("a second OpenLink on one link");
    default:
      return absl::InvalidArgumentError("a message that is neither swap, release nor heartbeat");
  }
}

absl::Status PeerLink::TakeHeartbeat(const v1::Heartbeat& heartbeat) {
  if (heartbeat.number() <= last_heartbeat_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "heartbeat: expected a number above ", last_heartbeat_, ", found ", heartbeat.number()));
  }
  last_heartbeat_ = heartbeat.number();
  Push(Outgoing{false, {}, last_heartbeat_, {}, exchange::SwapResult()});
  return absl::OkStatus();
}

absl::Status PeerLink::TakeSwap(v1::SwapRequest& request) {
  const uint64_t step_id = request.header().step_id();
  if (any_step_ && step_id <= last_step_) {
    return absl::InvalidArgumentError(
        absl::StrCat("step_id: expected more than ", last_step_, ", found ", step_id));
  }
  any_step_ = true;
  last_step_ = step_id;
  absl::StatusOr<exchange::StepHeader> header = exchange::FromWire(request.header());
  exchange::StepHeader refused;
  refused.step_id = step_id;
  exchange::RowBlock beside;
  if (carrier_ != nullptr) {
    // The rows are on their way, so they must be taken in even where the swap is then refused; a
    // header that does not say how many there are ends the link.
    CCOE_RETURN_IF_ERROR(header.status());
    CCOE_ASSIGN_OR_RETURN(beside, ReceiveRows(*header, request));
  }
  if (!header.ok()) {
    Reply(refused, header.status());
    return absl::OkStatus();
  }
  absl::StatusOr<exchange::RowBlock> rows = CheckedRows(request, *header, std::move(beside));
  if (!rows.ok()) {
    Reply(refused, rows.status());
    return absl::OkStatus();
  }
  in_flight_.fetch_add(1);
  handler_->HandleSwap(peer_, *header, *std::move(rows),
                       [this, header = *header](absl::StatusOr<exchange::SwapResult> result) {
                         in_flight_.fetch_sub(1);
                         Reply(header, std::move(result));
                       });
  return absl::OkStatus();
}

absl::StatusOr<exchange::RowBlock> PeerLink::ReceiveRows(const exchange::StepHeader& header,
                                                         v1::SwapRequest& request) {
  CCOE_RETURN_IF_ERROR(exchange::Validate(header, handler_->hidden_size(), options_.limits));
  CCOE_RETURN_IF_ERROR(exchange::CheckFitsMessage(header));
  if (!request.rows().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "step ", header.step_id, ": rows in the message, which travel beside the stream"));
  }
  if (memory_ != nullptr) {
    // Without room they take the way through host memory.
    auto fresh = memory_->Take(header.rows(), header.hidden_size, header.wire_dtype);
    if (fresh.ok()) {
      CCOE_RETURN_IF_ERROR(carrier_->ReceiveRows(*fresh));
      return std::move(fresh->block);
    }
  }
  request.mutable_rows()->resize(exchange::SentRowBytes(header));
  CCOE_RETURN_IF_ERROR(carrier_->Receive(*request.mutable_rows()));
  return exchange::RowBlock();
}

absl::StatusOr<exchange::RowBlock> PeerLink::CheckedRows(v1::SwapRequest& request,
                                                         const exchange::StepHeader& header,
                                                         exchange::RowBlock beside) const {
  CCOE_RETURN_IF_ERROR(exchange::Validate(header, handler_->hidden_size(), options_.limits));
  CCOE_RETURN_IF_ERROR(exchange::CheckFitsMessage(header));
  if (in_flight_.load() >= options_.max_swaps_in_flight) {
    return absl::ResourceExhaustedError(
        absl::StrCat("step ", header.step_id, ": ", in_flight_.load(), " swaps in flight, at most ",
                     options_.max_swaps_in_flight));
  }
  if (beside.on_device()) return beside;
  CCOE_ASSIGN_OR_RETURN(
      std::vector<float> rows,
      exchange::DecodeRows(request.rows(), header.rows(), header.hidden_size, header.wire_dtype));
  return exchange::RowBlock(std::move(rows));
}

void PeerLink::Reply(const exchange::StepHeader& header,
                     absl::StatusOr<exchange::SwapResult> result) {
  Push(Outgoing{false, {}, 0, header, std::move(result)});
}

void PeerLink::Push(Outgoing outgoing) {
  if (queue_.TryPush(std::move(outgoing)) || queue_.closed()) return;
  overflowed_ = true;
  context_->TryCancel();
}

v1::LinkReply PeerLink::Encode(const Outgoing& outgoing) const {
  v1::LinkReply reply;
  if (outgoing.heartbeat != 0) {
    reply.mutable_heartbeat()->set_number(outgoing.heartbeat);
    return reply;
  }
  if (!outgoing.accepted) {
    exchange::ToWire(outgoing.header, outgoing.result, *reply.mutable_swap());
    return reply;
  }
  v1::OpenAccepted& accepted = *reply.mutable_accepted();
  accepted.set_protocol_version(exchange::kExchangeProtocolVersion);
  accepted.set_worker_id(options_.worker_id);
  accepted.set_epoch(options_.epoch);
  accepted.set_max_swaps_in_flight(options_.max_swaps_in_flight);
  accepted.set_max_rows(options_.limits.max_rows);
  accepted.set_max_sequences(options_.limits.max_sequences);
  if (!outgoing.carrier.id().empty() || !outgoing.carrier.refusal().empty()) {
    *accepted.mutable_carrier() = outgoing.carrier;
  }
  return reply;
}

void PeerLink::Write() {
  WriteAll();
  writer_done_.Notify();
}

// `rows`: of host memory, if any.
absl::Status PeerLink::SendRows(const Outgoing& outgoing, const std::string& rows) {
  if (outgoing.result->device_rows.on_device()) {
    return carrier_->SendRows(outgoing.result->device_rows);
  }
  return rows.empty() ? absl::OkStatus() : carrier_->Send(rows);
}

void PeerLink::WriteAll() {
  // Nothing is sent before the OpenAccepted, so this waits for the peer's OpenLink.
  absl::Time deadline = absl::Now() + options_.open_timeout;
  // An answer that was sent is not held while the next one is awaited: its rows take up room.
  while (std::optional<Outgoing> next = queue_.Pop(deadline)) {
    if (ending_) return;
    deadline = absl::InfiniteFuture();
    v1::LinkReply reply = Encode(*next);
    std::string rows;
    if (reply.has_swap() && carrier_ != nullptr) rows.swap(*reply.mutable_swap()->mutable_rows());
    const bool answered = reply.has_swap() && reply.swap().code() == 0;
    if (stream_->Write(reply) && (!answered || SendRows(*next, rows).ok())) continue;
    // The stream is dead; ending the call wakes the reader. Answers that still come find a closed
    // queue.
    queue_.Close();
    context_->TryCancel();
    return;
  }
  if (!queue_.closed()) context_->TryCancel();
}

}  // namespace ccoe::services
