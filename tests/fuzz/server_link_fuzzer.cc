// SPDX-License-Identifier: Apache-2.0
// The expert worker's end of a link, against a peer that sends whatever it likes, reads its answers
// late or not at all, and leaves at any time. No socket: the stream is a fake. Input: steps.
#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "ccoe/v1/exchange.pb.h"
#include "runtime/base/check.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/grpc/handshake.h"
#include "runtime/exchange/grpc/server_link.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/link_steps.h"
#include "tests/testing/fake_swap_handler.h"

namespace ccoe::exchange {

// gRPC's side of the call: one read and one write at a time, each ended by the test.
class FakeServerStream final
    : public grpc::ServerCallbackReaderWriter<v1::LinkMessage, v1::LinkReply> {
 public:
  using Reactor = grpc::ServerBidiReactor<v1::LinkMessage, v1::LinkReply>;

  void Bind(Reactor* reactor) {
    reactor_ = reactor;
    BindReactor(reactor);
  }

  // Waits until the link reads on; false where it has ended.
  bool AwaitRead() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return reading_ != nullptr || finished_;
    };
    mutex_.Await(absl::Condition(&there));
    return reading_ != nullptr;
  }
  bool reads() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return reading_ != nullptr;
  }
  void EndRead(const v1::LinkMessage* message) ABSL_LOCKS_EXCLUDED(mutex_) {
    v1::LinkMessage* target = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      target = std::exchange(reading_, nullptr);
    }
    if (message != nullptr) *target = *message;
    reactor_->OnReadDone(message != nullptr);
  }

  // What is being written, into `reply`; false: nothing.
  bool EndWrite(bool ok, v1::LinkReply& reply) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ == nullptr) return false;
      reply = *std::exchange(writing_, nullptr);
    }
    reactor_->OnWriteDone(ok);
    return true;
  }

  // Waits for what the link writes or for its end: true, a write.
  bool AwaitWrite() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return writing_ != nullptr || finished_;
    };
    mutex_.Await(absl::Condition(&there));
    return writing_ != nullptr;
  }

  void Read(v1::LinkMessage* message) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    CCOE_CHECK(reading_ == nullptr && !finished_);
    reading_ = message;
  }
  void Write(const v1::LinkReply* reply, grpc::WriteOptions /*options*/) override
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    CCOE_CHECK(writing_ == nullptr && !finished_);
    writing_ = reply;
  }
  void Finish(grpc::Status /*status*/) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    CCOE_CHECK(writing_ == nullptr && reading_ == nullptr && !finished_);
    finished_ = true;
  }
  void SendInitialMetadata() override {}
  void WriteAndFinish(const v1::LinkReply* /*reply*/, grpc::WriteOptions /*options*/,
                      grpc::Status /*status*/) override {
    CCOE_CHECK(false);
  }

 private:
  grpc::internal::ServerReactor* reactor() override { return reactor_; }
  void CallOnDone() override {}

  Reactor* reactor_ = nullptr;
  mutable absl::Mutex mutex_;
  v1::LinkMessage* reading_ ABSL_GUARDED_BY(mutex_) = nullptr;
  const v1::LinkReply* writing_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

class Peer {
 public:
  explicit Peer(FuzzInput input) : input_(input) {
    options_.grant.credit = {4096, 6};
    options_.grant.limits.max_rows = 12;
    options_.grant.limits.max_sequences = 6;
    options_.open_timeout = absl::InfiniteDuration();
  }

  void Run() {
    // Without a context there is no call to cancel: Step does what its cancel would.
    ServerLink link(&handler_, options_, nullptr);
    stream_.Bind(&link);
    std::thread thread([&link] { link.Run(); });
    stream_.AwaitRead();
    const v1::LinkMessage open = Open();
    stream_.EndRead(&open);
    // From here on each message is taken in before EndRead returns: they are small.
    stream_.AwaitRead();
    while (stream_.reads() && !input_.empty()) Step();
    if (stream_.reads()) stream_.EndRead(nullptr);
    handler_.AnswerHeld();
    while (stream_.AwaitWrite()) TakeReply(true);
    static_cast<FakeServerStream::Reactor&>(link).OnDone();
    thread.join();
    CheckEvents();
    CCOE_CHECK(handler_.peers() == 0);
  }

 private:
  v1::LinkMessage Open() {
    v1::LinkMessage message;
    LinkIdentity identity;
    identity.worker_id = "peer";
    identity.hidden_size = kFuzzHidden;
    const uint8_t flags = input_.Byte();
    if (flags == 255) {
      FillRaw(input_, message);
      return message;
    }
    *message.mutable_open() = MakeOpen(identity, kernels::DType::kF32, nullptr);
    if (flags == 254) FillRaw(input_, *message.mutable_open());
    if (flags == 253) message.mutable_open()->mutable_rows_beside_stream()->set_version("v");
    return message;
  }

  void Step() {
    const uint8_t step = input_.Byte();
    switch (step % 8) {
      case 5:
        TakeReply(step < 248);
        if (step >= 248 && stream_.reads()) stream_.EndRead(nullptr);
        return;
      case 6:
        return handler_.Hold();
      case 7:
        return handler_.AnswerHeld();
      default:
        const v1::LinkMessage message = Next();
        for (const auto& swap : message.envelope().swaps()) unanswered_.insert(swap.id());
        stream_.EndRead(&message);
    }
  }

  v1::LinkMessage Next() {
    v1::LinkMessage message;
    const uint8_t kind = input_.Byte();
    switch (kind % 12) {
      case 0:
        message.mutable_release()->set_sequence_id(input_.Byte() % 8);
        break;
      case 1:
        heartbeat_ += kind > 240 ? 0 : 1;
        message.mutable_heartbeat()->set_number(heartbeat_);
        break;
      case 2:
        for (int left = input_.Byte() % 8; left > 0; --left) {
          message.mutable_cancel()->add_swap_ids(last_id_ - input_.Byte() % 8);
        }
        message.mutable_cancel();
        break;
      case 3:
        if (kind > 200) FillRaw(input_, message);
        if (message.message_case() != v1::LinkMessage::MESSAGE_NOT_SET) break;
        [[fallthrough]];
      default:
        Fill(input_, last_id_, *message.mutable_envelope());
    }
    return message;
  }

  // Every swap is answered once at most, and none that was not sent.
  void TakeReply(bool ok) {
    v1::LinkReply reply;
    if (!stream_.EndWrite(ok, reply)) return;
    CCOE_CHECK(reply.has_accepted() == !std::exchange(accepted_, true));
    if (reply.has_answer()) CCOE_CHECK(unanswered_.erase(reply.answer().swap_id()) == 1);
    if (reply.has_heartbeat()) CCOE_CHECK(reply.heartbeat().number() <= heartbeat_);
  }

  // What got to the handler is sound, and came in order.
  void CheckEvents() {
    uint64_t last = 0;
    for (const auto& event : handler_.events()) {
      if (event.release || event.cancel) continue;
      CCOE_CHECK(event.swap_id > last);
      last = event.swap_id;
      CCOE_CHECK(Validate(event.header, kFuzzHidden, options_.grant.limits).ok());
      CCOE_CHECK(static_cast<int64_t>(event.rows.size()) == event.header.rows() * kFuzzHidden);
    }
  }

  FuzzInput input_;
  ServerLinkOptions options_;
  testing::FakeSwapHandler handler_{kFuzzHidden};
  FakeServerStream stream_;
  uint64_t last_id_ = 0, heartbeat_ = 0;
  std::set<uint64_t> unanswered_;
  bool accepted_ = false;
};

}  // namespace ccoe::exchange

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::exchange::Peer(ccoe::FuzzInput(data, size)).Run();
  return 0;
}
