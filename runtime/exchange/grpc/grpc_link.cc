#include "runtime/exchange/grpc/grpc_link.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/base/bounded_queue.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/grpc/wire_messages.h"
#include "runtime/exchange/row_codec.h"
#include "runtime/exchange/swaps_in_flight.h"

namespace ccoe::exchange {
namespace {

// Releases that may wait beside the swaps. They are a few bytes each; more mean that the peer takes
// nothing.
constexpr size_t kMaxQueuedReleases = 4096;
// A peer's reason, for people; it cannot make it long.
constexpr size_t kMaxRefusalBytes = 512;

// One stream. The reader thread opens it, starts the writer thread, reads until the stream ends and
// then ends everything.
class GrpcLink final : public ActivationLink {
 public:
  GrpcLink(std::shared_ptr<grpc::Channel> channel, const GrpcLinkOptions& options)
      : options_(options),
        stub_(v1::Exchange::NewStub(channel)),
        queue_(options.max_swaps_in_flight + kMaxQueuedReleases) {}

  ~GrpcLink() override {
    if (swaps_ != nullptr) swaps_->Stop();
    if (carrier_ != nullptr) carrier_->Abort();
    context_.TryCancel();
    if (reader_.joinable()) reader_.join();
  }

  // The handshake; call once, before all else.
  absl::Status Open() {
    reader_ = std::thread([this] { Read(); });
    if (!opened_.WaitForNotificationWithTimeout(options_.open_timeout)) {
      context_.TryCancel();
      reader_.join();
      return absl::DeadlineExceededError(absl::StrCat(options_.name,
                                                      ": the link was not accepted within ",
                                                      absl::FormatDuration(options_.open_timeout)));
    }
    return open_status_;
  }

  void Swap(const StepHeader& header, const RowBlock& rows, absl::Time deadline,
            SwapCallback done) override {
    absl::Status good = CheckSwap(header, rows, options_.hidden_size, limits_, device_memory());
    if (good.ok()) good = CheckFitsMessage(header);
    if (!good.ok()) return swaps_->Refuse(std::move(good), std::move(done));
    Outgoing outgoing;
    v1::SwapRequest& request = *outgoing.message.mutable_swap();
    ToWire(header, *request.mutable_header());
    if (rows.on_device()) {
      outgoing.device_rows = rows;
    } else {
      EncodeRows(rows.view(), header.wire_dtype, *request.mutable_rows());
    }
    absl::MutexLock lock(&send_mutex_);
    if (!swaps_->Begin(header, deadline, std::move(done))) return;
    Remember(header);
    Send(std::move(outgoing));
  }

  RowMemory* device_memory() const override {
    return carrier_ == nullptr ? nullptr : options_.carriers->memory();
  }

  void ReleaseSequence(uint64_t sequence_id) override {
    Outgoing outgoing;
    outgoing.message.mutable_release()->set_sequence_id(sequence_id);
    absl::MutexLock lock(&send_mutex_);
    Send(std::move(outgoing));
  }

  absl::Status Health() const override { return swaps_->Health(); }
  SwapBounds bounds() const override { return {limits_.max_rows, kMaxSwapBytes}; }
  void Close() override { swaps_->Close("closed"); }
  std::string Name() const override { return options_.name; }

 private:
  using Stream = grpc::ClientReaderWriter<v1::LinkMessage, v1::LinkReply>;

  struct Outgoing {
    v1::LinkMessage message;
    RowBlock device_rows;  // of a swap, where they go beside the stream from a device
  };

  void Send(Outgoing outgoing) ABSL_EXCLUSIVE_LOCKS_REQUIRED(send_mutex_) {
    if (queue_.TryPush(std::move(outgoing)) || queue_.closed()) return;
    swaps_->Close(
        absl::StrCat("the peer takes no messages: ", queue_.capacity(), " wait to be sent"));
  }

  // One question at a time: a peer that does not answer is not asked again. Any place in the queue
  // will do, so no lock is needed.
  void SendHeartbeat() {
    if (heartbeats_answered_.load() < heartbeats_sent_.load()) return;
    Outgoing outgoing;
    outgoing.message.mutable_heartbeat()->set_number(heartbeats_sent_.fetch_add(1) + 1);
    queue_.TryPush(std::move(outgoing));
  }

  // Keeps what decoding an answer needs. The step leaves again with its answer, so there are as
  // many as swaps in flight.
  void Remember(const StepHeader& header) ABSL_LOCKS_EXCLUDED(steps_mutex_) {
    absl::MutexLock lock(&steps_mutex_);
    steps_[header.step_id] = header;
  }
  std::optional<StepHeader> Recall(uint64_t step_id) ABSL_LOCKS_EXCLUDED(steps_mutex_) {
    absl::MutexLock lock(&steps_mutex_);
    const auto found = steps_.find(step_id);
    if (found == steps_.end()) return std::nullopt;
    StepHeader header = std::move(found->second);
    steps_.erase(found);
    return header;
  }

  void Read();
  absl::Status Handshake(Stream& stream);
  absl::Status ReadAnswers(Stream& stream);
  absl::Status Take(v1::LinkReply& reply);
  absl::Status TakeAnswer(v1::SwapReply& reply);
  absl::Status TakeHeartbeat(const v1::Heartbeat& answer);
  void Write(Stream& stream);
  absl::Status CheckAccepted(const v1::LinkReply& reply);
  absl::Status ConnectCarrier(const v1::Carrier& offered);
  absl::StatusOr<RowBlock> ReceiveRows(const StepHeader& header, v1::SwapReply& reply);
  absl::Status SendRows(Outgoing& outgoing, const std::string& rows);
  void Start(const v1::OpenAccepted& accepted);

  const GrpcLinkOptions options_;
  const std::unique_ptr<v1::Exchange::Stub> stub_;
  grpc::ClientContext context_;
  BoundedQueue<Outgoing> queue_;

  absl::Notification opened_;
  absl::Status open_status_;              // written before opened_
  StepLimits limits_;                     // likewise
  std::unique_ptr<RowCarrier> carrier_;   // likewise; null: rows in messages
  std::unique_ptr<SwapsInFlight> swaps_;  // likewise; null where the handshake failed
  absl::Mutex send_mutex_;                // a swap enters swaps_ and the queue in the same order
  std::atomic<uint64_t> heartbeats_sent_ = 0, heartbeats_answered_ = 0;  // their numbers
  absl::Mutex steps_mutex_;
  absl::flat_hash_map<uint64_t, StepHeader> steps_ ABSL_GUARDED_BY(steps_mutex_);
  std::thread reader_;
};

absl::Status GrpcLink::CheckAccepted(const v1::LinkReply& reply) {
  const v1::OpenAccepted& accepted = reply.accepted();
  if (!reply.has_accepted()) {
    return absl::InternalError("the peer's first answer is not OpenAccepted");
  }
  if (accepted.protocol_version() != kExchangeProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("protocol version: expected ", kExchangeProtocolVersion, ", the peer speaks ",
                     accepted.protocol_version()));
  }
  if (accepted.max_swaps_in_flight() < 1 || accepted.max_rows() < 1 ||
      accepted.max_sequences() < 1) {
    return absl::InternalError(absl::StrCat(
        "the peer's limits: expected 1 or more, found ", accepted.max_swaps_in_flight(), " swaps, ",
        accepted.max_rows(), " rows, ", accepted.max_sequences(), " sequences"));
  }
  return absl::OkStatus();
}

void GrpcLink::Start(const v1::OpenAccepted& accepted) {
  limits_ = options_.limits;
  limits_.max_rows = std::min<int64_t>(limits_.max_rows, accepted.max_rows());
  limits_.max_sequences = std::min<int64_t>(limits_.max_sequences, accepted.max_sequences());
  SwapsInFlight::Options swaps;
  swaps.link_name = options_.name;
  swaps.max_swaps = std::min<int>(options_.max_swaps_in_flight, accepted.max_swaps_in_flight());
  swaps.longest_wait = options_.longest_wait;
  swaps.silence_timeout = options_.silence_timeout;
  swaps.send_heartbeat = [this] { SendHeartbeat(); };
  swaps.on_closed = [this] {
    queue_.Close();
    if (carrier_ != nullptr) carrier_->Abort();
    context_.TryCancel();
  };
  swaps_ = std::make_unique<SwapsInFlight>(std::move(swaps));
}

absl::Status GrpcLink::Handshake(Stream& stream) {
  v1::LinkMessage hello;
  v1::OpenLink& open = *hello.mutable_open();
  open.set_protocol_version(kExchangeProtocolVersion);
  open.set_worker_id(options_.worker_id);
  open.set_model_fingerprint(options_.model_fingerprint);
  open.set_hidden_size(options_.hidden_size);
  open.set_wire_dtype(ToWire(options_.wire_dtype));
  if (options_.carriers == nullptr) {
    open.mutable_rows_in_messages();
  } else {
    open.mutable_rows_beside_stream()->set_version(options_.carriers->Version());
  }
  v1::LinkReply reply;
  if (!stream.Write(hello) || !stream.Read(&reply)) {
    const grpc::Status end = stream.Finish();
    if (end.ok()) return absl::UnavailableError("the peer ended the stream");
    return StatusFromWire(end.error_code(), end.error_message());
  }
  absl::Status good = CheckAccepted(reply);
  if (good.ok() && options_.carriers != nullptr) good = ConnectCarrier(reply.accepted().carrier());
  if (!good.ok()) {
    context_.TryCancel();
    stream.Finish();
    return good;
  }
  Start(reply.accepted());
  return absl::OkStatus();
}

// Both ends connect at the same time.
absl::Status GrpcLink::ConnectCarrier(const v1::Carrier& offered) {
  const std::string version = options_.carriers->Version();
  if (offered.id().empty()) {
    if (!options_.require_carrier) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("rows over ", version, ": the peer refuses: ",
                     offered.refusal().empty() ? "it knows no way beside the stream"
                                               : offered.refusal().substr(0, kMaxRefusalBytes)));
  }
  auto carrier = options_.carriers->Connect(offered.id(), /*opener=*/true,
                                            absl::Now() + options_.open_timeout);
  if (!carrier.ok()) {
    return absl::Status(carrier.status().code(),
                        absl::StrCat("rows over ", version, ": ", carrier.status().message()));
  }
  carrier_ = *std::move(carrier);
  return absl::OkStatus();
}

void GrpcLink::Read() {
  const std::unique_ptr<Stream> stream = stub_->Open(&context_);
  open_status_ = Handshake(*stream);
  if (!open_status_.ok()) {
    opened_.Notify();
    return;
  }
  std::thread writer([this, &stream] { Write(*stream); });
  opened_.Notify();
  const absl::Status broken = ReadAnswers(*stream);
  if (!broken.ok()) {
    swaps_->Close(broken.message());
    context_.TryCancel();
  }
  // The stream is over, so a write in progress fails at once; Finish must not run beside it.
  queue_.Close();
  writer.join();
  const grpc::Status end = stream->Finish();
  swaps_->Close(end.ok() ? "the peer closed the link"
                         : absl::StrCat("the link broke: ", end.error_message()));
}

absl::Status GrpcLink::ReadAnswers(Stream& stream) {
  v1::LinkReply reply;
  while (stream.Read(&reply)) {
    swaps_->Heard();
    const absl::Status good = Take(reply);
    if (!good.ok()) return good;
  }
  return absl::OkStatus();
}

absl::Status GrpcLink::Take(v1::LinkReply& reply) {
  switch (reply.message_case()) {
    case v1::LinkReply::kSwap:
      return TakeAnswer(*reply.mutable_swap());
    case v1::LinkReply::kHeartbeat:
      return TakeHeartbeat(reply.heartbeat());
    default:
      return absl::InternalError(
          "the peer sent something other than a swap's or a heartbeat's answer");
  }
}

absl::Status GrpcLink::TakeHeartbeat(const v1::Heartbeat& answer) {
  if (answer.number() == heartbeats_answered_.load() + 1 &&
      answer.number() <= heartbeats_sent_.load()) {
    heartbeats_answered_ = answer.number();
    return absl::OkStatus();
  }
  return absl::InternalError(
      absl::StrCat("an answer to heartbeat ", answer.number(), ", which was not asked"));
}

// Rows that came to the device; else none, and they are in `reply`.
absl::StatusOr<RowBlock> GrpcLink::ReceiveRows(const StepHeader& header, v1::SwapReply& reply) {
  if (!reply.rows().empty()) {
    return absl::InternalError(absl::StrCat("the answer to step ", header.step_id,
                                            " has rows, which travel beside the stream"));
  }
  if (header.returned_rows() == 0) return RowBlock();
  if (RowMemory* const memory = device_memory()) {
    // Without room they take the way through host memory.
    auto fresh = memory->Take(header.returned_rows(), header.hidden_size, header.wire_dtype);
    if (fresh.ok()) {
      CCOE_RETURN_IF_ERROR(carrier_->ReceiveRows(*fresh));
      return std::move(fresh->block);
    }
  }
  reply.mutable_rows()->resize(ReturnedRowBytes(header));
  CCOE_RETURN_IF_ERROR(carrier_->Receive(*reply.mutable_rows()));
  return RowBlock();
}

absl::Status GrpcLink::TakeAnswer(v1::SwapReply& reply) {
  const uint64_t step_id = reply.step_id();
  const std::optional<StepHeader> header = Recall(step_id);
  if (!header.has_value()) {
    return absl::InternalError(
        absl::StrCat("an answer to step ", step_id, ", which is not in flight (answered twice?)"));
  }
  RowBlock beside;
  if (carrier_ != nullptr && reply.code() == 0) {
    absl::StatusOr<RowBlock> received = ReceiveRows(*header, reply);
    if (!received.ok()) {
      swaps_->Answer(step_id, absl::UnavailableError(received.status().message())).IgnoreError();
      return received.status();
    }
    beside = *std::move(received);
    swaps_->Heard();
  }
  absl::StatusOr<SwapResult> result = FromWire(reply, *header, std::move(beside));
  const absl::Status decoded = reply.code() == 0 ? result.status() : absl::OkStatus();
  const absl::Status taken = swaps_->Answer(step_id, std::move(result));
  return decoded.ok() ? taken : decoded;
}

// `rows`: of host memory, if any.
absl::Status GrpcLink::SendRows(Outgoing& outgoing, const std::string& rows) {
  if (outgoing.device_rows.on_device()) return carrier_->SendRows(outgoing.device_rows);
  return rows.empty() ? absl::OkStatus() : carrier_->Send(rows);
}

void GrpcLink::Write(Stream& stream) {
  while (std::optional<Outgoing> outgoing = queue_.Pop()) {
    v1::LinkMessage& message = outgoing->message;
    std::string rows;
    if (carrier_ != nullptr && message.has_swap())
      rows.swap(*message.mutable_swap()->mutable_rows());
    if (!stream.Write(message)) return;  // the reader learns why
    if (const absl::Status sent = SendRows(*outgoing, rows); !sent.ok()) {
      return swaps_->Close(sent.message());
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ActivationLink>> OpenGrpcLink(std::shared_ptr<grpc::Channel> channel,
                                                             const GrpcLinkOptions& options) {
  if (options.hidden_size < 1 || options.max_swaps_in_flight < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.name, ": hidden_size and max_swaps_in_flight: expected 1 or more, found ",
        options.hidden_size, " and ", options.max_swaps_in_flight));
  }
  if (options.silence_timeout < absl::Milliseconds(1)) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.name, ": silence_timeout: expected 1ms or more, found ",
                     absl::FormatDuration(options.silence_timeout)));
  }
  auto link = std::make_unique<GrpcLink>(std::move(channel), options);
  if (absl::Status opened = link->Open(); !opened.ok()) {
    return absl::Status(opened.code(), absl::StrCat(options.name, ": ", opened.message()));
  }
  return link;
}

}  // namespace ccoe::exchange
