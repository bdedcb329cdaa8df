#include "runtime/exchange/grpc/grpc_link.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/grpc/link_writer.h"
#include "runtime/exchange/grpc/rows_beside.h"
#include "runtime/exchange/grpc/wire_messages.h"
#include "runtime/exchange/link_table.h"

namespace ccoe::exchange {
namespace {

// A peer's reason, for people; it cannot make it long.
constexpr size_t kMaxRefusalBytes = 512;

// One stream. The reader thread opens it, starts the writer, reads until the stream ends and then
// ends everything.
class GrpcLink final : public ActivationLink {
 public:
  GrpcLink(std::shared_ptr<grpc::Channel> channel, const GrpcLinkOptions& options)
      : options_(options), stub_(v1::Exchange::NewStub(channel)) {}

  ~GrpcLink() override {
    if (table_ != nullptr) table_->Stop();
    beside_.Abort();
    context_.TryCancel();
    if (reader_.joinable()) reader_.join();
    beside_.Close();
  }

  // The handshake; call once, before all else.
  absl::Status Open();

  void Send(Envelope envelope, SwapCallback done) override;
  void CancelSwaps(std::vector<uint64_t> swap_ids) override;
  void ReleaseSequence(uint64_t sequence_id) override;

  RowMemory* device_memory() const override { return beside_.memory(); }
  bool healthy() const override { return table_->healthy(); }
  absl::Status Health() const override { return table_->Health(); }
  std::string WhereIs(uint64_t swap_id) const override {
    std::string where = table_->WhereIs(swap_id);
    if (where == "waits to be sent" && writer_->Starved()) where += ": no credit";
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
  using Stream = grpc::ClientReaderWriter<v1::LinkMessage, v1::LinkReply>;

  int64_t max_bytes() const { return std::min(kMaxEnvelopeBytes, grant_.credit.bytes / 2); }

  // On the reader's thread.
  void Read();
  absl::Status Handshake();
  absl::Status ConnectCarrier(const v1::Carrier& offered);
  LinkWriter::Options WriterOptions(const v1::OpenAccepted& accepted);
  void Start(const v1::OpenAccepted& accepted);
  absl::Status ReadAnswers();
  absl::Status Take(const v1::LinkReply& reply);
  absl::Status TakeAnswer(const v1::SwapAnswer& answer);
  absl::Status Finish(const SwapHeader& header, absl::StatusOr<SwapResult> result);
  absl::Status TakeHeartbeat(const v1::HeartbeatReply& reply);

  // On the writer's.
  bool WriteEnvelope(Envelope envelope);
  bool WriteCancels();
  void AskForLife();

  const GrpcLinkOptions options_;
  const std::unique_ptr<v1::Exchange::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;

  // Written before opened_:
  absl::Notification opened_;
  absl::Status open_status_;
  LinkGrant grant_;  // what the peer grants and we use
  LinkPeer peer_;
  RowsBeside beside_;
  std::unique_ptr<LinkTable> table_;  // null where the handshake failed; likewise:
  std::unique_ptr<LinkWriter> writer_;

  absl::Mutex send_mutex_;  // a swap enters the table and the writer's queue in the same order
  absl::Mutex cancel_mutex_;
  std::vector<uint64_t> cancels_ ABSL_GUARDED_BY(cancel_mutex_);         // to be told to the peer
  std::atomic<uint64_t> heartbeats_sent_ = 0, heartbeats_answered_ = 0;  // their numbers
  std::thread reader_;
};

absl::Status GrpcLink::Open() {
  reader_ = std::thread([this] { Read(); });
  if (!opened_.WaitForNotificationWithTimeout(options_.open_timeout)) {
    context_.TryCancel();
    reader_.join();
    return absl::DeadlineExceededError(absl::StrCat("the link was not accepted within ",
                                                    absl::FormatDuration(options_.open_timeout)));
  }
  return open_status_;
}

void GrpcLink::Send(Envelope envelope, SwapCallback done) {
  absl::MutexLock lock(&send_mutex_);
  if (!table_->Begin(envelope, std::move(done))) return;
  const SwapCredit cost = CostOf(envelope);
  const bool queued = writer_->Push(cost, [this, envelope = std::move(envelope)]() mutable {
    return WriteEnvelope(std::move(envelope));
  });
  if (!queued) table_->Close("the peer takes no messages");
}

void GrpcLink::CancelSwaps(std::vector<uint64_t> swap_ids) {
  const std::vector<uint64_t> told = table_->Cancel(swap_ids);
  if (told.empty()) return;
  absl::MutexLock lock(&cancel_mutex_);
  const bool queued = !cancels_.empty();
  cancels_.insert(cancels_.end(), told.begin(), told.end());
  // Where it is refused the writer is closed, or the next cancel tries again.
  if (!queued && !writer_->PushUrgent([this] { return WriteCancels(); })) cancels_.clear();
}

void GrpcLink::ReleaseSequence(uint64_t sequence_id) {
  absl::MutexLock lock(&send_mutex_);
  const bool queued = writer_->Push({}, [this, sequence_id] {
    v1::LinkMessage message;
    message.mutable_release()->set_sequence_id(sequence_id);
    return stream_->Write(message);
  });
  if (!queued) table_->Close("the peer takes no messages");
}

// One question at a time: a peer that does not answer is not asked again.
void GrpcLink::AskForLife() {
  if (heartbeats_answered_.load() < heartbeats_sent_.load()) return;
  const uint64_t number = heartbeats_sent_.fetch_add(1) + 1;
  writer_->PushUrgent([this, number] {
    v1::LinkMessage message;
    message.mutable_heartbeat()->set_number(number);
    return stream_->Write(message);
  });
}

bool GrpcLink::WriteCancels() {
  v1::LinkMessage message;
  {
    absl::MutexLock lock(&cancel_mutex_);
    message.mutable_cancel()->mutable_swap_ids()->Add(cancels_.begin(), cancels_.end());
    cancels_.clear();
  }
  return stream_->Write(message);
}

bool GrpcLink::WriteEnvelope(Envelope envelope) {
  writer_->ReturnCredit(table_->StartSending(envelope));
  if (envelope.swaps.empty()) return true;
  v1::LinkMessage message;
  std::vector<std::string> rows;
  ToWire(envelope, *message.mutable_envelope(), beside_.active() ? &rows : nullptr);
  if (!stream_->Write(message)) return false;  // the reader learns why
  for (size_t i = 0; i < rows.size(); ++i) {
    beside_.Send(std::move(envelope.swaps[i].rows.block), std::move(rows[i]),
                 [this](const absl::Status& why) { table_->Close(why.message()); });
  }
  return true;
}

LinkWriter::Options GrpcLink::WriterOptions(const v1::OpenAccepted& accepted) {
  grant_ = options_.use;
  grant_.credit = SwapCredit::Min(grant_.credit, GrantOf(accepted).credit);
  LinkWriter::Options writer;
  writer.credit = grant_.credit;
  writer.max_items += static_cast<size_t>((grant_.credit + options_.backlog).swaps);
  return writer;
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
  table.memory = beside_.memory();
  table.capacity = grant_.credit + options_.backlog;
  table.patience = options_.patience;
  table.send_heartbeat = [this] { AskForLife(); };
  table.on_closed = [this] {
    writer_->Close();
    beside_.Abort();
    context_.TryCancel();
  };
  table.clock = options_.clock;
  table_ = std::make_unique<LinkTable>(std::move(table));
}

absl::Status GrpcLink::Handshake() {
  v1::LinkMessage hello;
  *hello.mutable_open() = MakeOpen(options_.identity, options_.wire_dtype, options_.carriers);
  v1::LinkReply reply;
  if (!stream_->Write(hello) || !stream_->Read(&reply)) {
    const grpc::Status end = stream_->Finish();
    if (end.ok()) return absl::UnavailableError("the peer ended the stream");
    return absl::Status(static_cast<absl::StatusCode>(end.error_code()),
                        TextOf(end.error_message()));
  }
  absl::Status good = CheckAccepted(reply);
  if (good.ok()) {
    writer_ = std::make_unique<LinkWriter>(WriterOptions(reply.accepted()));
    if (options_.carriers != nullptr) good = ConnectCarrier(reply.accepted().carrier());
  }
  if (!good.ok()) {
    context_.TryCancel();
    beside_.Close();
    if (writer_ != nullptr) {
      writer_->Close();
      writer_->AwaitDone(absl::InfiniteDuration());
    }
    stream_->Finish();
    return good;
  }
  Start(reply.accepted());
  return absl::OkStatus();
}

absl::Status GrpcLink::ConnectCarrier(const v1::Carrier& offered) {
  if (!offered.id().empty()) {
    return beside_.Connect(*options_.carriers, offered.id(), /*opener=*/true, options_.open_timeout,
                           [this](const RowCarrier::Note& note) {
                             writer_->PushUrgent([this, note] {
                               v1::LinkMessage message;
                               *message.mutable_carrier_note() = ToWire(note);
                               return stream_->Write(message);
                             });
                           });
  }
  if (!options_.require_carrier) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("rows over ", options_.carriers->Version(), ": the peer refuses: ",
                   offered.refusal().empty() ? "it knows no way beside the stream"
                                             : offered.refusal().substr(0, kMaxRefusalBytes)));
}

void GrpcLink::Read() {
  stream_ = stub_->Open(&context_);
  open_status_ = Handshake();
  const bool open = open_status_.ok();
  opened_.Notify();
  if (!open) return;
  const absl::Status broken = ReadAnswers();
  if (!broken.ok()) table_->Close(broken.message());
  context_.TryCancel();
  // The stream is over, so a write in progress fails at once; Finish must not run beside it.
  writer_->Close();
  writer_->AwaitDone(absl::InfiniteDuration());
  const grpc::Status end = stream_->Finish();
  table_->Close(end.ok() ? "the peer closed the link"
                         : absl::StrCat("the link broke: ", TextOf(end.error_message())));
}

absl::Status GrpcLink::ReadAnswers() {
  v1::LinkReply reply;
  while (stream_->Read(&reply)) {
    table_->Heard();
    CCOE_RETURN_IF_ERROR(Take(reply));
  }
  return absl::OkStatus();
}

absl::Status GrpcLink::Take(const v1::LinkReply& reply) {
  switch (reply.message_case()) {
    case v1::LinkReply::kAnswer:
      return TakeAnswer(reply.answer());
    case v1::LinkReply::kHeartbeat:
      return TakeHeartbeat(reply.heartbeat());
    case v1::LinkReply::kCarrierNote:
      return beside_.Take(reply.carrier_note());
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
  absl::StatusOr<SwapResult> result = FromWire(answer, *header, beside_.active());
  if (answer.reason() != v1::SWAP_REASON_NONE) return Finish(*header, std::move(result));
  CCOE_RETURN_IF_ERROR(result.status());
  const int64_t rows = ReturnedRows(*header, *result);
  if (!beside_.active() || rows == 0) return Finish(*header, std::move(result));
  beside_.Receive(
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
  writer_->ReturnCredit(CostOf(header));
  return table_->Answer(header.id, std::move(result));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ActivationLink>> OpenGrpcLink(std::shared_ptr<grpc::Channel> channel,
                                                             const GrpcLinkOptions& options) {
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
  auto link = std::make_unique<GrpcLink>(std::move(channel), options);
  if (absl::Status opened = link->Open(); !opened.ok()) {
    return absl::Status(opened.code(), absl::StrCat(options.name, ": ", opened.message()));
  }
  return link;
}

}  // namespace ccoe::exchange
