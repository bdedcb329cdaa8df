// SPDX-License-Identifier: Apache-2.0
// The backbone worker's end of a link, against a peer that answers whatever it likes, takes no more
// messages, and leaves at any time. No socket: the stream is a fake. Input: steps.
#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/base/check.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "runtime/exchange/grpc/handshake.h"
#include "runtime/exchange/grpc/wire_messages.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/link_steps.h"

namespace ccoe::exchange {

// gRPC's side of the call: one read and one write at a time, each ended by the test. The first
// write, of the OpenLink, ends at once, and the first read with it. Without holds the call is over.
class FakeClientStream final
    : public grpc::ClientCallbackReaderWriter<v1::LinkMessage, v1::LinkReply> {
 public:
  using Reactor = grpc::ClientBidiReactor<v1::LinkMessage, v1::LinkReply>;

  // Null: the peer ends the stream instead.
  explicit FakeClientStream(std::unique_ptr<v1::LinkReply> first) : first_(std::move(first)) {}

  void Bind(Reactor* reactor) {
    reactor_ = reactor;
    BindReactor(reactor);
  }

  bool reads() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return reading_ != nullptr;
  }
  void EndRead(const v1::LinkReply* reply) ABSL_LOCKS_EXCLUDED(mutex_) {
    v1::LinkReply* target = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      target = std::exchange(reading_, nullptr);
      if (target == nullptr) return;
      ++holds_;  // the call is not over before the reaction is
    }
    if (reply != nullptr) *target = *reply;
    reactor_->OnReadDone(reply != nullptr);
    RemoveHold();
  }
  bool EndWrite(bool ok) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (!std::exchange(writing_, false)) return false;
      ++holds_;
    }
    reactor_->OnWriteDone(ok);
    RemoveHold();
    return true;
  }

  void StartCall() override {}
  void Read(v1::LinkReply* reply) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    CCOE_CHECK(reading_ == nullptr && !over_);
    reading_ = reply;
  }
  void Write(const v1::LinkMessage* message, grpc::WriteOptions /*options*/) override
      ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      CCOE_CHECK(!writing_ && !over_);
      writing_ = true;
    }
    if (!message->has_open()) return;
    EndRead(first_.get());
    EndWrite(true);
  }
  void WritesDone() override {}
  void AddHold(int holds) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    holds_ += holds;
  }
  // As gRPC, once it was cancelled: what is read ends, then the call.
  void RemoveHold() override ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (--holds_ > 0) return;
    }
    if (reads()) return EndRead(nullptr);
    {
      absl::MutexLock lock(&mutex_);
      CCOE_CHECK(!writing_ && !over_);
      over_ = true;
    }
    reactor_->OnDone(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the peer left"));
  }

 private:
  const std::unique_ptr<v1::LinkReply> first_;
  Reactor* reactor_ = nullptr;
  mutable absl::Mutex mutex_;
  v1::LinkReply* reading_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  int holds_ ABSL_GUARDED_BY(mutex_) = 0;
};

class FakeStub final : public v1::Exchange::StubInterface,
                       private v1::Exchange::StubInterface::async_interface {
 public:
  explicit FakeStub(FakeClientStream* stream) : stream_(*stream) {}

  v1::Exchange::StubInterface::async_interface* async() override { return this; }

 private:
  using Blocking = grpc::ClientReaderWriterInterface<v1::LinkMessage, v1::LinkReply>;
  using Queued = grpc::ClientAsyncReaderWriterInterface<v1::LinkMessage, v1::LinkReply>;

  void Open(grpc::ClientContext* /*context*/, FakeClientStream::Reactor* reactor) override {
    stream_.Bind(reactor);
  }
  Blocking* OpenRaw(grpc::ClientContext* /*context*/) override { return nullptr; }
  Queued* AsyncOpenRaw(grpc::ClientContext* /*context*/, grpc::CompletionQueue* /*queue*/,
                       void* /*tag*/) override {
    return nullptr;
  }
  Queued* PrepareAsyncOpenRaw(grpc::ClientContext* /*context*/,
                              grpc::CompletionQueue* /*queue*/) override {
    return nullptr;
  }

  FakeClientStream& stream_;
};

// Each swap ends once, and what it ends with fits it.
class Answers {
 public:
  void Expect(const SwapHeader& header) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    headers_.emplace(header.id, header);
  }
  void Take(uint64_t id, const absl::StatusOr<SwapResult>& result) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto header = headers_.find(id);
    CCOE_CHECK(header != headers_.end());
    if (result.ok()) {
      CCOE_CHECK(CheckResult(header->second, *result).ok());
    } else {
      CCOE_CHECK(!result.status().message().empty());
    }
    headers_.erase(header);
  }
  bool empty() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return headers_.empty();
  }

 private:
  mutable absl::Mutex mutex_;
  std::map<uint64_t, SwapHeader> headers_ ABSL_GUARDED_BY(mutex_);
};

class Sender {
 public:
  explicit Sender(FuzzInput input) : input_(input), stream_(Accepted()) {}

  void Run() {
    GrpcLinkOptions options;
    options.identity.worker_id = "sender";
    options.identity.hidden_size = kFuzzHidden;
    options.use.credit = {4096, 6};
    options.backlog = {2048, 4};
    options.open_timeout = absl::InfiniteDuration();
    options.patience = {absl::InfiniteDuration(), absl::InfiniteDuration()};
    auto link = OpenGrpcLink(std::make_unique<FakeStub>(&stream_), options);
    if (!link.ok()) {
      CCOE_CHECK(!link.status().message().empty());
      return;
    }
    link_ = *std::move(link);
    const LinkBounds bounds = link_->bounds();
    CCOE_CHECK(bounds.max_rows > 0 && bounds.max_swaps > 0 && bounds.max_sequences > 0);
    while (!input_.empty()) Step();
    link_->Close();
    while (stream_.EndWrite(true)) {
    }
    link_ = nullptr;
    CCOE_CHECK(answers_.empty());
  }

 private:
  std::unique_ptr<v1::LinkReply> Accepted() {
    const uint8_t flags = input_.Byte();
    if (flags == 255) return nullptr;
    auto reply = std::make_unique<v1::LinkReply>();
    if (flags == 254) {
      FillRaw(input_, *reply);
      return reply;
    }
    LinkGrant grant;
    grant.credit = {4096, 8};
    if (flags >= 200) {
      grant.credit = {Number(input_), Number(input_)};
      grant.limits.max_rows = Number(input_);
      grant.limits.max_sequences = Number(input_);
    }
    *reply->mutable_accepted() = MakeAccepted({}, 1, grant, {});
    if (flags == 253) FillRaw(input_, *reply->mutable_accepted()->mutable_carrier());
    return reply;
  }

  void Step() {
    const uint8_t step = input_.Byte();
    switch (step % 8) {
      case 0:
      case 1:
        return Send();
      case 2:
        return link_->CancelSwaps({last_id_ - input_.Byte() % 8, last_id_});
      case 3:
        return link_->ReleaseSequence(input_.Byte() % 8);
      case 4:
        stream_.EndWrite(step < 248);
        return;
      default:
        return Reply();
    }
  }

  void Send() {
    v1::Envelope message;
    Fill(input_, last_id_, message);
    Envelope envelope;
    envelope.step_id = message.step_id();
    const absl::StatusOr<RowFormat> format = FormatOf(message);
    if (!format.ok()) return;
    for (const v1::SwapRequest& request : message.swaps()) {
      absl::StatusOr<SwapHeader> header = FromWire(request, *format);
      if (!header.ok() || !headers_.emplace(header->id, *header).second) continue;
      // No sum may overflow: a sender knows how many rows it has.
      const bool sound = Validate(*header, kFuzzHidden).ok() && header->rows() < 64;
      const size_t rows = sound ? static_cast<size_t>(header->rows()) : 1;
      envelope.swaps.push_back(
          {*std::move(header), {RowBlock(std::vector<float>(rows * kFuzzHidden)), {}}});
    }
    if (envelope.swaps.empty()) return;
    for (const Swap& swap : envelope.swaps) answers_.Expect(swap.header);
    link_->Send(std::move(envelope), [this](uint64_t id, absl::StatusOr<SwapResult> result) {
      answers_.Take(id, result);
    });
  }

  void Reply() {
    if (!stream_.reads()) return;
    const uint8_t kind = input_.Byte();
    if (kind == 255) return stream_.EndRead(nullptr);
    v1::LinkReply reply;
    if (kind >= 250) {
      FillRaw(input_, reply);
    } else if (kind >= 248) {
      reply.mutable_heartbeat()->set_number(input_.Byte() % 4);
    } else {
      Answer(last_id_ - kind % 8, kind / 8, *reply.mutable_answer());
    }
    stream_.EndRead(&reply);
  }

  // Of a swap that was sent, or of none.
  void Answer(uint64_t id, int how, v1::SwapAnswer& answer) {
    answer.set_swap_id(id);
    const auto found = headers_.find(id);
    const bool sound = found != headers_.end() && Validate(found->second, kFuzzHidden).ok() &&
                       found->second.rows() < 64;
    if (!sound || how == 30) return FillRaw(input_, answer);
    const SwapHeader& header = found->second;
    SwapResult result;
    if (header.layer() != nullptr && how % 4 == 1) {
      result.verdicts.resize(header.layer()->sequences.size());
      result.verdicts.back() = SwapError(SwapReason::kNoPages, "no pages");
    }
    result.rows.resize(static_cast<size_t>(ReturnedRows(header, result) * kFuzzHidden));
    result.captured.resize(static_cast<size_t>(header.captured_rows() * kFuzzHidden) % 4096);
    ToWire(header, result, answer);
    if (how >= 26) answer.mutable_rows()->push_back('\0');
    if (how >= 28) answer.add_verdicts()->set_index(static_cast<int32_t>(Number(input_)));
    if (how == 25) answer.set_reason(static_cast<v1::SwapReason>(input_.Byte()));
  }

  FuzzInput input_;
  uint64_t last_id_ = 0;
  FakeClientStream stream_;
  std::map<uint64_t, SwapHeader> headers_;
  Answers answers_;
  std::unique_ptr<ActivationLink> link_;
};

}  // namespace ccoe::exchange

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::exchange::Sender(ccoe::FuzzInput(data, size)).Run();
  return 0;
}
