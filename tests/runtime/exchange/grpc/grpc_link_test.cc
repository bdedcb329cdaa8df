// SPDX-License-Identifier: Apache-2.0
// What the link does when the other end breaks the protocol. The conformance suite has the rest.
#include "runtime/exchange/grpc/grpc_link.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

using Stream = grpc::ServerReaderWriter<v1::LinkReply, v1::LinkMessage>;

// A worker that does whatever it is told.
class ScriptedWorker final : public v1::Exchange::Service {
 public:
  using Script = std::function<grpc::Status(grpc::ServerContext*, Stream*)>;
  explicit ScriptedWorker(Script script) : script_(std::move(script)), server_(this) {}

  grpc::Status Open(grpc::ServerContext* context, Stream* stream) override {
    return script_(context, stream);
  }

  // Most scripts answer no heartbeat.
  absl::StatusOr<std::unique_ptr<ActivationLink>> Connect(
      absl::Duration open_timeout = absl::Seconds(30),
      PeerPatience patience = {absl::InfiniteDuration(), absl::InfiniteDuration()}) {
    GrpcLinkOptions options;
    options.name = "grpc://worker-3";
    options.identity.worker_id = "backbone-1";
    options.identity.source_digest = "12ab";
    options.identity.numerics = "avx512/1";
    options.identity.hidden_size = 2;
    options.backlog = {1 << 20, 1};
    options.open_timeout = open_timeout;
    options.patience = patience;
    return OpenGrpcLink(server_.TcpChannel(), options);
  }

 private:
  const Script script_;
  ExchangeServer server_;
};

v1::LinkReply Accepted() {
  v1::LinkReply reply;
  v1::OpenAccepted& accepted = *reply.mutable_accepted();
  accepted.set_protocol_version(kExchangeProtocolVersion);
  accepted.set_worker_id("worker-3");
  accepted.set_numerics("avx2/1");
  accepted.set_epoch(17);
  accepted.set_max_swaps(2);
  accepted.set_credit_bytes(4096);
  accepted.set_max_rows(100);
  accepted.set_max_sequences(10);
  return reply;
}

// Answers each message with the next of these bytes, messages or not, and leaves the stream open.
class RawWorker final : public grpc::CallbackGenericService {
 public:
  explicit RawWorker(std::vector<std::string> replies) : replies_(std::move(replies)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
  }
  ~RawWorker() override { server_->Shutdown(std::chrono::system_clock::now()); }
  std::shared_ptr<grpc::Channel> Channel() const {
    return ExchangeServer::Dial(absl::StrCat("127.0.0.1:", port_));
  }

 private:
  class Call final : public grpc::ServerGenericBidiReactor {
   public:
    explicit Call(const std::vector<std::string>& replies) : replies_(replies) { StartRead(&in_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      if (next_ < replies_.size()) {
        const grpc::Slice slice(replies_[next_++]);
        out_ = grpc::ByteBuffer(&slice, 1);
        StartWrite(&out_);
      }
      StartRead(&in_);
    }
    void OnDone() override { delete this; }

   private:
    const std::vector<std::string>& replies_;
    size_t next_ = 0;
    grpc::ByteBuffer in_, out_;
  };
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    return new Call(replies_);
  }

  const std::vector<std::string> replies_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

v1::LinkReply Answer(uint64_t swap, size_t row_bytes) {
  v1::LinkReply reply;
  reply.mutable_answer()->set_swap_id(swap);
  reply.mutable_answer()->set_rows(std::string(row_bytes, '\0'));
  return reply;
}

v1::LinkReply Alive(uint64_t number, uint64_t passes, const char* computing = "math@1") {
  v1::LinkReply reply;
  reply.mutable_heartbeat()->set_number(number);
  reply.mutable_heartbeat()->set_passes(passes);
  reply.mutable_heartbeat()->set_computing(computing);
  reply.mutable_heartbeat()->set_last_swap_id(1);
  return reply;
}

// Accepts the link, sends `replies` after the first swap, then waits for the peer to go.
ScriptedWorker::Script AfterFirstSwap(std::vector<v1::LinkReply> replies) {
  return [replies](grpc::ServerContext*, Stream* stream) {
    v1::LinkMessage message;
    stream->Read(&message);
    stream->Write(Accepted());
    stream->Read(&message);
    for (const v1::LinkReply& reply : replies) stream->Write(reply);
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  };
}

SwapHeader Header(uint64_t swap) { return MakeHeader(swap, {{1, 0, 2, ReturnRows::kAll}}, 2); }

// Sends swaps 1 and 2 to a worker that answers swap 1 with `replies`; returns how the link ended.
absl::Status EndAfter(std::vector<v1::LinkReply> replies, SwapRecorder& recorder) {
  ScriptedWorker worker(AfterFirstSwap(std::move(replies)));
  auto link = worker.Connect();
  if (!link.ok()) return link.status();
  for (uint64_t swap = 1; swap <= 2; ++swap)
    recorder.Send(**link, Header(swap), std::vector<float>(4));
  EXPECT_THAT(recorder.Await(2), FailsWith(SwapReason::kLinkBroken));
  return (*link)->Health();
}

TEST(GrpcLinkTest, AnAnswerGivenTwiceClosesTheLinkAndSaysSo) {
  SwapRecorder recorder;
  EXPECT_THAT(EndAfter({Answer(1, 16), Answer(1, 16)}, recorder),
              FailsWith(SwapReason::kLinkBroken,
                        HasSubstr("grpc://worker-3: an answer to swap 1, which is not in flight")));
  EXPECT_OK(recorder.Await(1).status());
  EXPECT_EQ(recorder.calls(1), 1);
}

TEST(GrpcLinkTest, AnAnswerToASwapNeverSentClosesTheLink) {
  SwapRecorder recorder;
  EXPECT_THAT(EndAfter({Answer(99, 16)}, recorder),
              FailsWith(SwapReason::kLinkBroken, HasSubstr("swap 99")));
  EXPECT_THAT(recorder.Await(1), FailsWith(SwapReason::kLinkBroken));
}

TEST(GrpcLinkTest, RowsOfTheWrongSizeEndTheirSwapAndTheLink) {
  SwapRecorder recorder;
  EXPECT_THAT(EndAfter({Answer(1, 12)}, recorder),
              FailsWith(SwapReason::kLinkBroken,
                        HasSubstr("the answer to swap 1: rows: expected 16 bytes")));
  // Another replica may do better.
  EXPECT_THAT(recorder.Await(1), FailsWith(SwapReason::kLinkBroken, HasSubstr("found 12")));
}

TEST(GrpcLinkTest, AFirstReplyThatIsNoMessageIsAnErrorAndNoWaitForEver) {
  const RawWorker worker({std::string("\xff\xff\xff", 3)});
  GrpcLinkOptions options;
  options.identity.hidden_size = 2;
  options.open_timeout = absl::Milliseconds(200);
  EXPECT_THAT(OpenGrpcLink(worker.Channel(), options),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("the peer ended the stream")));
}

TEST(GrpcLinkTest, ALaterReplyThatIsNoMessageClosesTheLink) {
  const RawWorker worker({Accepted().SerializeAsString(), std::string("\xff\xff\xff", 3)});
  GrpcLinkOptions options;
  options.identity.hidden_size = 2;
  options.patience = {absl::InfiniteDuration(), absl::InfiniteDuration()};
  ASSERT_OK_AND_ASSIGN(const auto link, OpenGrpcLink(worker.Channel(), options));
  SwapRecorder recorder;
  recorder.Send(*link, Header(1), std::vector<float>(4));
  EXPECT_THAT(recorder.Await(1), FailsWith(SwapReason::kLinkBroken));
  EXPECT_FALSE(link->healthy());
}

TEST(GrpcLinkTest, ASecondAcceptanceOrAnEmptyReplyClosesTheLink) {
  SwapRecorder recorder;
  EXPECT_THAT(
      EndAfter({Accepted()}, recorder),
      FailsWith(SwapReason::kLinkBroken, HasSubstr("other than a swap's or a heartbeat's")));
  SwapRecorder other;
  EXPECT_THAT(EndAfter({v1::LinkReply()}, other), FailsWith(SwapReason::kLinkBroken));
}

TEST(GrpcLinkTest, VerdictsThatMakeNoSenseCloseTheLink) {
  v1::LinkReply reply = Answer(1, 0);
  v1::Verdict& verdict = *reply.mutable_answer()->add_verdicts();
  verdict.set_reason(v1::SWAP_REASON_NO_PAGES);
  verdict.set_index(1);  // the swap has one sequence
  SwapRecorder recorder;
  EXPECT_THAT(EndAfter({reply}, recorder),
              FailsWith(SwapReason::kLinkBroken, HasSubstr("of a sequence from 0 to 0")));
}

TEST(GrpcLinkTest, AWorkerThatReadsNothingIsSilentAndHoldsUpNobody) {
  ScriptedWorker worker([](grpc::ServerContext* context, Stream* stream) {
    stream->Write(Accepted());
    absl::Notification never;
    while (!context->IsCancelled()) never.WaitForNotificationWithTimeout(absl::Milliseconds(5));
    return grpc::Status::OK;
  });
  ASSERT_OK_AND_ASSIGN(const auto link,
                       worker.Connect(absl::Seconds(30), {absl::Milliseconds(50)}));
  SwapRecorder recorder;
  recorder.Send(*link, Header(1), std::vector<float>(4));
  EXPECT_THAT(recorder.Await(1), FailsWith(SwapReason::kLinkBroken, HasSubstr("silent")));
  EXPECT_FALSE(link->healthy());
  EXPECT_THAT(link->Health(), FailsWith(SwapReason::kLinkBroken));
}

TEST(GrpcLinkTest, ThePeersLowerLimitsHold) {
  ScriptedWorker worker([](grpc::ServerContext*, Stream* stream) {
    v1::LinkMessage message;
    stream->Read(&message);
    stream->Write(Accepted());
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  });
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect());
  SwapRecorder recorder;
  // Two at the worker, one waits.
  for (uint64_t swap = 1; swap <= 4; ++swap)
    recorder.Send(*link, Header(swap), std::vector<float>(4));
  EXPECT_THAT(recorder.Await(4), FailsWith(SwapReason::kLinkFull, HasSubstr("at most 3")));
  const SwapHeader large = MakeHeader(5, {{1, 0, 101, ReturnRows::kAll}}, 2);
  recorder.Send(*link, large, std::vector<float>(202));
  EXPECT_THAT(recorder.Await(5), FailsWith(SwapReason::kInvalid, HasSubstr("1 to 100")));
}

TEST(GrpcLinkTest, APeerThatAnswersNoHeartbeatHangsAndIsLeft) {
  SwapRecorder recorder;
  ScriptedWorker worker(AfterFirstSwap({}));
  ASSERT_OK_AND_ASSIGN(const auto link,
                       worker.Connect(absl::Seconds(30), {absl::Milliseconds(100)}));
  recorder.Send(*link, Header(1), std::vector<float>(4));
  EXPECT_THAT(recorder.Await(1),
              FailsWith(SwapReason::kLinkBroken,
                        HasSubstr("grpc://worker-3: the peer is silent: no sign of life for")));
  EXPECT_THAT(link->Health(), FailsWith(SwapReason::kLinkBroken, HasSubstr("silent")));
}

// Accepts a link, takes a swap, answers `heartbeats` heartbeats with passes as `passes` says, then
// the swap.
ScriptedWorker::Script Computing(int heartbeats, std::function<uint64_t(int)> passes) {
  return [heartbeats, passes](grpc::ServerContext*, Stream* stream) {
    v1::LinkMessage message;
    stream->Read(&message);
    stream->Write(Accepted());
    int beats = 0;
    while (beats < heartbeats && stream->Read(&message)) {
      if (!message.has_heartbeat()) continue;
      EXPECT_EQ(message.heartbeat().number(), ++beats);
      stream->Write(Alive(message.heartbeat().number(), passes(beats)));
    }
    stream->Write(Answer(1, 16));
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  };
}

TEST(GrpcLinkTest, AWorkerThatComputesThreeTimesTheSilenceAllowedIsWaitedFor) {
  ScriptedWorker worker(Computing(13, [](int) { return 7; }));
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect(absl::Seconds(30), {absl::Seconds(1)}));
  SwapRecorder recorder;
  recorder.Send(*link, Header(1), std::vector<float>(4));
  EXPECT_OK(recorder.Await(1).status());
  EXPECT_OK(link->Health());
}

TEST(GrpcLinkTest, AWorkerThatAnswersAndEndsNoPassHasStalledAndIsLeft) {
  ScriptedWorker worker(Computing(1 << 20, [](int) { return 7; }));
  ASSERT_OK_AND_ASSIGN(
      const auto link,
      worker.Connect(absl::Seconds(30), {absl::Seconds(2), absl::Milliseconds(600)}));
  SwapRecorder recorder;
  recorder.Send(*link, Header(1), std::vector<float>(4));
  EXPECT_THAT(recorder.Await(1),
              FailsWith(SwapReason::kLinkBroken,
                        HasSubstr("the peer has stalled: it answers, but ended no pass for")));
  EXPECT_THAT(link->Health(),
              FailsWith(SwapReason::kLinkBroken, HasSubstr("computes math@1 since")));
}

TEST(GrpcLinkTest, AWorkerThatEndsPassesForOthersHasNotStalled) {
  ScriptedWorker worker(Computing(12, [](int beats) { return beats; }));
  ASSERT_OK_AND_ASSIGN(const auto link,
                       worker.Connect(absl::Seconds(30), {absl::Seconds(1), absl::Seconds(2)}));
  SwapRecorder recorder;
  recorder.Send(*link, Header(1), std::vector<float>(4));
  EXPECT_OK(recorder.Await(1).status());
}

TEST(GrpcLinkTest, AnAnswerToAHeartbeatNeverSentClosesTheLink) {
  SwapRecorder recorder;
  EXPECT_THAT(EndAfter({Alive(3, 1)}, recorder),
              FailsWith(SwapReason::kLinkBroken, HasSubstr("heartbeat 3")));
}

TEST(GrpcLinkTest, SaysWhatAnEnvelopeMayCarryAndWhoIsThere) {
  ScriptedWorker worker(AfterFirstSwap({}));
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect());
  EXPECT_EQ(link->bounds().max_rows, 100);
  EXPECT_EQ(link->bounds().max_bytes, 2048);  // half the credit each way
  EXPECT_EQ(link->peer().worker_id, "worker-3");
  EXPECT_EQ(link->peer().numerics, "avx2/1");
  EXPECT_EQ(link->peer().epoch, 17);
}

TEST(GrpcLinkTest, OpenFailsWithThePeersReason) {
  ScriptedWorker worker([](grpc::ServerContext*, Stream*) {
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "this worker speaks 3, the peer 2");
  });
  EXPECT_THAT(worker.Connect(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("grpc://worker-3: this worker speaks 3, the peer 2")));
}

TEST(GrpcLinkTest, OpenRefusesAnotherProtocolVersionAndAbsurdAnswers) {
  v1::LinkReply reply = Accepted();
  ScriptedWorker worker([&reply](grpc::ServerContext*, Stream* stream) {
    v1::LinkMessage message;
    stream->Read(&message);
    stream->Write(reply);
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  });
  reply.mutable_accepted()->set_protocol_version(2);
  EXPECT_THAT(worker.Connect(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("protocol version: expected 3, the peer speaks 2")));
  reply = Accepted();
  reply.mutable_accepted()->set_max_rows(-1);
  EXPECT_THAT(worker.Connect(), StatusIs(absl::StatusCode::kInternal, HasSubstr("limits")));
  reply = Answer(1, 0);
  EXPECT_THAT(worker.Connect(), StatusIs(absl::StatusCode::kInternal, HasSubstr("first answer")));
}

TEST(GrpcLinkTest, OpenGivesUpOnASilentPeer) {
  ScriptedWorker worker([](grpc::ServerContext*, Stream* stream) {
    v1::LinkMessage message;
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  });
  EXPECT_THAT(worker.Connect(absl::Milliseconds(50)),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("not accepted within 50ms")));
}

TEST(GrpcLinkTest, OpenSaysWhenNobodyIsThere) {
  std::string target;
  {
    v1::Exchange::Service unused;
    target = ExchangeServer(&unused).target();
  }
  GrpcLinkOptions options;
  options.identity.hidden_size = 2;
  EXPECT_THAT(OpenGrpcLink(ExchangeServer::Dial(target), options),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST(GrpcLinkTest, OpenRefusesOptionsThatMakeNoSense) {
  EXPECT_THAT(OpenGrpcLink(ExchangeServer::Dial("127.0.0.1:1"), GrpcLinkOptions()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hidden_size")));
  GrpcLinkOptions options;
  options.identity.hidden_size = 2;
  options.patience.silence = absl::ZeroDuration();
  EXPECT_THAT(OpenGrpcLink(ExchangeServer::Dial("127.0.0.1:1"), options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("silence")));
}

TEST(GrpcLinkTest, TellsThePeerWhoItIs) {
  v1::LinkMessage first;
  ScriptedWorker worker([&first](grpc::ServerContext*, Stream* stream) {
    stream->Read(&first);
    stream->Write(Accepted());
    v1::LinkMessage message;
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  });
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect());
  EXPECT_EQ(link->Name(), "grpc://worker-3");
  EXPECT_EQ(first.open().protocol_version(), kExchangeProtocolVersion);
  EXPECT_EQ(first.open().worker_id(), "backbone-1");
  EXPECT_EQ(first.open().hidden_size(), 2);
  EXPECT_EQ(first.open().source_digest(), "12ab");
  EXPECT_EQ(first.open().numerics(), "avx512/1");
  EXPECT_EQ(first.open().wire_dtype(), v1::WIRE_DTYPE_F32);
  EXPECT_TRUE(first.open().has_rows_in_messages());
}

}  // namespace
}  // namespace ccoe::exchange
