// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/grpc_link.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/grpc/link_thread.h"
#include "runtime/exchange/grpc/link_writer.h"
#include "runtime/exchange/grpc/rows_beside.h"
#include "runtime/exchange/grpc/wire_messages.h"
#include "runtime/exchange/link_table.h"

namespace ccoe::exchange {
namespace {

// A peer's reason, for people; it cannot make it long.
constexpr size_t kMaxRefusalBytes = 512;

// gRPC's threads sleep for 100 ms once nothing has happened in their process for a second
// (CallbackAlternativeCQ of gRPC 1.51), and what comes then waits. Signs of life keep one of them
// awake, here and at the peer.
constexpr absl::Duration kIdleHeartbeat = absl::Milliseconds(400);

// One stream of gRPC's callback API. No thread of its own but the table's: a message is encoded and
// written by whoever sends it (LinkWriter), and read on a thread of gRPC's (OnReadDone), which
// hands answers to their swaps. The stream is over, and OnDone called, when it has ended and both
// holds are gone: that of Open, and that of the writer, until nothing is written any more.
class GrpcLink final : public ActivationLink,
                       private grpc::ClientBidiReactor<v1::LinkMessage, v1::LinkReply> {
 public:
  GrpcLink(std::unique_ptr<v1::Exchange::StubInterface> stub, const GrpcLinkOptions& options)
      : options_(options), stub_(std::move(stub)), writer_(WriterOptions()) {}

  ~GrpcLink() override {
    if (table_ != nullptr) table_->Stop();
    End();
    beside_ = nullptr;
  }

  // The handshake; call once, before all else.
  absl::Status Open();

  void Send(Envelope envelope, SwapCallback done) override;
  void CancelSwaps(std::vector<uint64_t> swap_ids) override;
  void ReleaseSequence(uint64_t sequence_id) override;

  RowMemory* device_memory() const override {
    return beside_ == nullptr ? nullptr : beside_->memory();
  }
  bool healthy() const override { return table_->healthy(); }
  absl::Status Health() const override { return table_->Health(); }
  std::string WhereIs(uint64_t swap_id) const override {
    std::string where = table_->WhereIs(swap_id);
    if (where == "waits to be sent" && writer_.Starved()) where += ": no credit";
    return where;
  }
  // Each way half the credit at most, so that what goes and what comes back fit together.
  LinkBounds bounds() const override {
    const EnvelopeLimits& limits = grant_.limits;
    return {limits.max_rows, max_bytes(), std::min(limits.max_swaps, grant_.credit.swaps),
            limits.max_sequences};
  }
  LinkPeer peer() const override { return peer_; }
  void Close() override { table_->Close("closed"); }
  std::string Name() const override { return options_.name; }

 private:
  int64_t max_bytes() const { return std::min(kMaxEnvelopeBytes, grant_.credit.bytes / 2); }

  LinkWriter::Options WriterOptions();
  // Waits for the peer's answer to our OpenLink and takes it.
  absl::Status Handshake();
  absl::Status ConnectCarrier(const v1::Carrier& offered);
  void Start(const v1::OpenAccepted& accepted);
  // Ends the stream and waits until it is over.
  void End();

  // gRPC's threads.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  // Takes reply_, and reads the next one where it is sound.
  void TakeReply();
  absl::Status Take(const v1::LinkReply& reply);
  absl::Status TakeAnswer(const v1::SwapAnswer& answer);
  absl::Status Finish(const SwapHeader& header, absl::StatusOr<SwapResult> result);
  absl::Status TakeHeartbeat(const v1::HeartbeatReply& reply);

  // As LinkWriter::Write.
  bool WriteMessage(v1::LinkMessage message) {
    message_ = std::move(message);
    StartWrite(&message_);
    return true;
  }
  bool WriteEnvelope(Envelope envelope);
  bool WriteCancels();
  void AskForLife();

  const GrpcLinkOptions options_;
  const std::unique_ptr<v1::Exchange::StubInterface> stub_;
  grpc::ClientContext context_;
  v1::LinkMessage message_;  // being written
  v1::LinkReply reply_;      // being read
  absl::Notification first_read_, over_;
  bool has_first_ = false;  // written before first_read_, and the end before over_
  grpc::Status end_;
  LinkWriter writer_;

  // Written before anything but the first reply is read:
  LinkGrant grant_;  // what the peer grants and we use
  LinkPeer peer_;
  std::unique_ptr<RowsBeside> beside_;  // null: rows are in messages
  std::unique_ptr<LinkTable> table_;    // null where the handshake failed

  absl::Mutex send_mutex_;  // a swap enters the table and the writer's queue in the same order
  absl::Mutex cancel_mutex_;
  std::vector<uint64_t> cancels_ ABSL_GUARDED_BY(cancel_mutex_);         // to be told to the peer
  std::atomic<uint64_t> heartbeats_sent_ = 0, heartbeats_answered_ = 0;  // their numbers
  LinkThread thread_;                                                    // joined first
};

LinkWriter::Options GrpcLink::WriterOptions() {
  LinkWriter::Options writer;
  writer.max_items += static_cast<size_t>((options_.use.credit + options_.backlog).swaps);
  writer.thread = &thread_;
  writer.on_done = [this] { RemoveHold(); };
  return writer;
}

absl::Status GrpcLink::Open() {
  stub_->async()->Open(&context_, this);
  AddMultipleHolds(2);
  StartRead(&reply_);
  StartCall();
  v1::LinkMessage hello;
  *hello.mutable_open() = MakeOpen(options_.identity, options_.wire_dtype, options_.carriers);
  writer_.Push({}, 0, [this, hello = std::move(hello)] { return WriteMessage(hello); });
  absl::Status opened = Handshake();
  if (opened.ok()) StartRead(&reply_);
  RemoveHold();
  if (opened.ok()) return opened;
  if (first_read_.HasBeenNotified() && !has_first_) {
    // Mostly nothing else is left of the stream but how it ended.
    writer_.Close();
    if (over_.WaitForNotificationWithTimeout(options_.open_timeout) && !end_.ok()) {
      opened = absl::Status(static_cast<absl::StatusCode>(end_.error_code()),
                            TextOf(end_.error_message()));
    }
  }
  End();
  return opened;
}

void GrpcLink::End() {
  if (beside_ != nullptr) beside_->Abort();
  context_.TryCancel();
  writer_.Close();
  over_.WaitForNotification();
}

absl::Status GrpcLink::Handshake() {
  if (!first_read_.WaitForNotificationWithTimeout(options_.open_timeout)) {
    return absl::DeadlineExceededError(absl::StrCat("the link was not accepted within ",
                                                    absl::FormatDuration(options_.open_timeout)));
  }
  if (!has_first_) return absl::UnavailableError("the peer ended the stream");
  CCOE_RETURN_IF_ERROR(CheckAccepted(reply_));
  grant_ = options_.use;
  grant_.credit = SwapCredit::Min(grant_.credit, GrantOf(reply_.accepted()).credit);
  writer_.ReturnCredit(grant_.credit);
  if (options_.carriers != nullptr) {
    CCOE_RETURN_IF_ERROR(ConnectCarrier(reply_.accepted().carrier()));
  }
  Start(reply_.accepted());
  return absl::OkStatus();
}

absl::Status GrpcLink::ConnectCarrier(const v1::Carrier& offered) {
  if (!offered.id().empty()) {
    CCOE_ASSIGN_OR_RETURN(
        beside_, RowsBeside::Connect(*options_.carriers, offered.id(), /*opener=*/true,
                                     options_.open_timeout, [this](const RowCarrier::Note& note) {
                                       writer_.PushUrgent([this, note] {
                                         v1::LinkMessage message;
                                         *message.mutable_carrier_note() = ToWire(note);
                                         return WriteMessage(std::move(message));
                                       });
                                     }));
    return absl::OkStatus();
  }
  if (!options_.require_carrier) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "rows over ", options_.carriers->Version(), ": the peer refuses: ",
      offered.refusal().empty() ? "it knows no way beside the stream"
                                : TextOf(offered.refusal().substr(0, kMaxRefusalBytes))));
}

void GrpcLink::Start(const v1::OpenAccepted& accepted) {
  peer_ = PeerOf(accepted);
  const LinkGrant theirs = GrantOf(accepted);
  EnvelopeLimits& limits = grant_.limits;
  limits.max_swaps = std::min({limits.max_swaps, theirs.limits.max_swaps, grant_.credit.swaps});
  limits.max_rows = std::min(limits.max_rows, theirs.limits.max_rows);
  limits.max_sequences = std::min(limits.max_sequences, theirs.limits.max_sequences);
  LinkTable::Options table;
  table.link_name = options_.name;
  table.hidden_size = options_.identity.hidden_size;
  table.limits = limits;
  table.max_bytes = max_bytes();
  table.memory = device_memory();
  table.capacity = grant_.credit + options_.backlog;
  table.patience = options_.patience;
  table.send_heartbeat = [this] { AskForLife(); };
  if (options_.patience.silence != absl::InfiniteDuration()) table.idle_heartbeat = kIdleHeartbeat;
  table.on_closed = [this] {
    if (beside_ != nullptr) beside_->Abort();
    context_.TryCancel();
    writer_.Close();
  };
  table.clock = options_.clock;
  table_ = std::make_unique<LinkTable>(std::move(table));
}

void GrpcLink::Send(Envelope envelope, SwapCallback done) {
  absl::MutexLock lock(&send_mutex_);
  if (!table_->Begin(envelope, std::move(done))) return;
  const SwapCredit cost = CostOf(envelope);
  int64_t bytes = 0;
  for (const Swap& swap : envelope.swaps) {
    if (!swap.rows.block.on_device()) bytes += SizeOf(swap.header).sent;
  }
  const bool queued = writer_.Push(cost, bytes, [this, envelope = std::move(envelope)]() mutable {
    return WriteEnvelope(std::move(envelope));
  });
  if (!queued) table_->Close("the peer takes no messages");
}

void GrpcLink::CancelSwaps(std::vector<uint64_t> swap_ids) {
  const std::vector<uint64_t> told = table_->Cancel(swap_ids);
  if (told.empty()) return;
  {
    absl::MutexLock lock(&cancel_mutex_);
    const bool queued = !cancels_.empty();
    cancels_.insert(cancels_.end(), told.begin(), told.end());
    if (queued) return;
  }
  if (writer_.PushUrgent([this] { return WriteCancels(); })) return;
  // The writer is closed, or the next cancel tries again.
  absl::MutexLock lock(&cancel_mutex_);
  cancels_.clear();
}

void GrpcLink::ReleaseSequence(uint64_t sequence_id) {
  absl::MutexLock lock(&send_mutex_);
  const bool queued = writer_.Push({}, 0, [this, sequence_id] {
    v1::LinkMessage message;
    message.mutable_release()->set_sequence_id(sequence_id);
    return WriteMessage(std::move(message));
  });
  if (!queued) table_->Close("the peer takes no messages");
}

// One question at a time: a peer that does not answer is not asked again.
void GrpcLink::AskForLife() {
  if (heartbeats_answered_.load() < heartbeats_sent_.load()) return;
  const uint64_t number = heartbeats_sent_.fetch_add(1) + 1;
  writer_.PushUrgent([this, number] {
    v1::LinkMessage message;
    message.mutable_heartbeat()->set_number(number);
    return WriteMessage(std::move(message));
  });
}

bool GrpcLink::WriteCancels() {
  v1::LinkMessage message;
  {
    absl::MutexLock lock(&cancel_mutex_);
    message.mutable_cancel()->mutable_swap_ids()->Add(cancels_.begin(), cancels_.end());
    cancels_.clear();
  }
  return WriteMessage(std::move(message));
}

bool GrpcLink::WriteEnvelope(Envelope envelope) {
  writer_.ReturnCredit(table_->StartSending(envelope));
  if (envelope.swaps.empty()) return false;
  v1::LinkMessage message;
  std::vector<std::string> rows;
  ToWire(envelope, *message.mutable_envelope(), beside_ == nullptr ? nullptr : &rows);
  // Before the write can end, and another envelope's rows come first.
  for (size_t i = 0; i < rows.size(); ++i) {
    beside_->Send(std::move(envelope.swaps[i].rows.block), std::move(rows[i]),
                  [this](const absl::Status& why) { table_->Close(why.message()); });
  }
  return WriteMessage(std::move(message));
}

void GrpcLink::OnReadDone(bool ok) {
  if (!first_read_.HasBeenNotified()) {
    has_first_ = ok;
    return first_read_.Notify();  // Open goes on
  }
  if (!ok) {
    // The stream has ended, and OnDone says how; or it holds what is no message.
    context_.TryCancel();
    return writer_.Close();
  }
  table_->Heard();
  if (static_cast<int64_t>(reply_.ByteSizeLong()) <= LinkThread::kLargeBytes) return TakeReply();
  AddHold();  // the stream is not over before the reply is taken
  thread_.Run([this] {
    TakeReply();
    RemoveHold();
  });
}

void GrpcLink::TakeReply() {
  const absl::Status taken = Take(reply_);
  reply_.Clear();  // its rows take up room
  if (taken.ok()) return StartRead(&reply_);
  table_->Close(taken.message());
  context_.TryCancel();
  writer_.Close();
}

void GrpcLink::OnWriteDone(bool ok) {
  message_.Clear();  // its rows take up room
  writer_.Written(ok);
}

void GrpcLink::OnDone(const grpc::Status& status) {
  end_ = status;
  if (table_ != nullptr) {
    table_->Close(status.ok() ? "the peer closed the link"
                              : absl::StrCat("the link broke: ", TextOf(status.error_message())));
  }
  over_.Notify();
}

absl::Status GrpcLink::Take(const v1::LinkReply& reply) {
  switch (reply.message_case()) {
    case v1::LinkReply::kAnswer:
      return TakeAnswer(reply.answer());
    case v1::LinkReply::kHeartbeat:
      return TakeHeartbeat(reply.heartbeat());
    case v1::LinkReply::kCarrierNote:
      return TakeNote(reply.carrier_note(), beside_.get());
    default:
      return absl::InternalError(
          "the peer sent something other than a swap's or a heartbeat's answer");
  }
}

absl::Status GrpcLink::TakeHeartbeat(const v1::HeartbeatReply& reply) {
  if (reply.number() != heartbeats_answered_.load() + 1 ||
      reply.number() > heartbeats_sent_.load()) {
    return absl::InternalError(
        absl::StrCat("an answer to heartbeat ", reply.number(), ", which was not asked"));
  }
  heartbeats_answered_ = reply.number();
  table_->Heard(ProgressOf(reply), reply.last_swap_id());
  return absl::OkStatus();
}

// An error closes the link, and with it the swap: another replica may do better.
absl::Status GrpcLink::TakeAnswer(const v1::SwapAnswer& answer) {
  std::shared_ptr<const SwapHeader> header = table_->Find(answer.swap_id());
  if (header == nullptr) {
    if (!table_->healthy()) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("an answer to swap ", answer.swap_id(),
                                            ", which is not in flight (answered twice?)"));
  }
  absl::StatusOr<SwapResult> result = FromWire(answer, *header, beside_ != nullptr);
  if (answer.reason() != v1::SWAP_REASON_NONE) return Finish(*header, std::move(result));
  CCOE_RETURN_IF_ERROR(result.status());
  const int64_t rows = ReturnedRows(*header, *result);
  if (beside_ == nullptr || rows == 0) return Finish(*header, std::move(result));
  beside_->Receive(
      header->format, rows,
      [this, header, result = *std::move(result)](absl::StatusOr<ArrivedRows> arrived) mutable {
        absl::Status taken = arrived.status();
        if (taken.ok()) {
          result.device_rows = std::move(arrived->device);
          result.rows = std::move(arrived->host);
          table_->Heard();
          taken = Finish(*header, std::move(result));
        }
        if (!taken.ok()) table_->Close(taken.message());
      });
  return absl::OkStatus();
}

absl::Status GrpcLink::Finish(const SwapHeader& header, absl::StatusOr<SwapResult> result) {
  const SwapCredit cost = CostOf(header);
  const absl::Status answered = table_->Answer(header.id, std::move(result));
  writer_.ReturnCredit(cost);
  return answered;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ActivationLink>> OpenGrpcLink(std::shared_ptr<grpc::Channel> channel,
                                                             const GrpcLinkOptions& options) {
  return OpenGrpcLink(v1::Exchange::NewStub(channel), options);
}

absl::StatusOr<std::unique_ptr<ActivationLink>> OpenGrpcLink(
    std::unique_ptr<v1::Exchange::StubInterface> stub, const GrpcLinkOptions& options) {
  if (options.identity.hidden_size < 1 || options.use.credit.swaps < 1 ||
      options.use.credit.bytes < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.name, ": hidden_size, swaps and bytes of credit: expected 1 or more, found ",
        options.identity.hidden_size, ", ", options.use.credit.swaps, " and ",
        options.use.credit.bytes));
  }
  if (options.patience.silence < absl::Milliseconds(1)) {
    return absl::InvalidArgumentError(absl::StrCat(options.name,
                                                   ": silence: expected 1ms or more, found ",
                                                   absl::FormatDuration(options.patience.silence)));
  }
  auto link = std::make_unique<GrpcLink>(std::move(stub), options);
  if (absl::Status opened = link->Open(); !opened.ok()) {
    return absl::Status(opened.code(), absl::StrCat(options.name, ": ", opened.message()));
  }
  return link;
}

}  // namespace ccoe::exchange
