// What the link does when the other end breaks the protocol. The conformance suite has the rest.
#include "runtime/exchange/grpc/grpc_link.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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
      absl::Duration silence_timeout = absl::InfiniteDuration()) {
    GrpcLinkOptions options;
    options.name = "grpc://worker-3";
    options.worker_id = "backbone-1";
    options.hidden_size = 2;
    options.open_timeout = open_timeout;
    options.silence_timeout = silence_timeout;
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
  accepted.set_max_swaps_in_flight(2);
  accepted.set_max_rows(100);
  accepted.set_max_sequences(10);
  return reply;
}

v1::LinkReply Answer(uint64_t step, size_t row_bytes) {
  v1::LinkReply reply;
  reply.mutable_swap()->set_step_id(step);
  reply.mutable_swap()->set_rows(std::string(row_bytes, '\0'));
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

StepHeader Header(uint64_t step) { return MakeHeader(step, {{1, 0, 2, ReturnRows::kAll}}, 2); }

// Sends steps 1 and 2 to a worker that answers step 1 with `replies`; returns how the link ended.
absl::Status EndAfter(std::vector<v1::LinkReply> replies, SwapRecorder& recorder) {
  ScriptedWorker worker(AfterFirstSwap(std::move(replies)));
  auto link = worker.Connect();
  if (!link.ok()) return link.status();
  for (uint64_t step = 1; step <= 2; ++step)
    recorder.Send(**link, Header(step), std::vector<float>(4));
  EXPECT_THAT(recorder.Await(2), StatusIs(absl::StatusCode::kUnavailable));
  return (*link)->Health();
}

TEST(GrpcLinkTest, AnAnswerGivenTwiceClosesTheLinkAndSaysSo) {
  SwapRecorder recorder;
  EXPECT_THAT(EndAfter({Answer(1, 16), Answer(1, 16)}, recorder),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("grpc://worker-3: an answer to step 1, which is not in flight")));
  EXPECT_OK(recorder.Await(1).status());
  EXPECT_EQ(recorder.calls(1), 1);
}

TEST(GrpcLinkTest, AnAnswerToAStepNeverSentClosesTheLink) {
  SwapRecorder recorder;
  EXPECT_THAT(EndAfter({Answer(99, 16)}, recorder),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("step 99")));
  EXPECT_THAT(recorder.Await(1), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(GrpcLinkTest, RowsOfTheWrongSizeEndTheirSwapAndTheLink) {
  SwapRecorder recorder;
  EXPECT_THAT(EndAfter({Answer(1, 12)}, recorder),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("expected 16 bytes")));
  EXPECT_THAT(recorder.Await(1), StatusIs(absl::StatusCode::kInternal, HasSubstr("found 12")));
}

TEST(GrpcLinkTest, ASecondAcceptanceOrAnEmptyReplyClosesTheLink) {
  SwapRecorder recorder;
  EXPECT_THAT(
      EndAfter({Accepted()}, recorder),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("other than a swap's or a heartbeat's")));
  SwapRecorder other;
  EXPECT_THAT(EndAfter({v1::LinkReply()}, other), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(GrpcLinkTest, AWorkerThatReadsNothingMissesDeadlinesAndHoldsUpNobody) {
  ScriptedWorker worker([](grpc::ServerContext* context, Stream* stream) {
    stream->Write(Accepted());
    absl::Notification never;
    while (!context->IsCancelled()) never.WaitForNotificationWithTimeout(absl::Milliseconds(5));
    return grpc::Status::OK;
  });
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect());
  SwapRecorder recorder;
  recorder.Send(*link, Header(1), std::vector<float>(4), absl::Now() + absl::Milliseconds(30));
  EXPECT_THAT(recorder.Await(1), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(link->Health(), StatusIs(absl::StatusCode::kUnavailable));
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
  for (uint64_t step = 1; step <= 3; ++step)
    recorder.Send(*link, Header(step), std::vector<float>(4));
  EXPECT_THAT(recorder.Await(3),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("at most 2")));
  const StepHeader large = MakeHeader(4, {{1, 0, 101, ReturnRows::kAll}}, 2);
  recorder.Send(*link, large, std::vector<float>(202));
  EXPECT_THAT(recorder.Await(4),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 to 100")));
}

TEST(GrpcLinkTest, APeerThatAnswersNoHeartbeatHangsAndIsLeft) {
  SwapRecorder recorder;
  ScriptedWorker worker(AfterFirstSwap({}));
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect(absl::Seconds(30), absl::Milliseconds(100)));
  recorder.Send(*link, Header(1), std::vector<float>(4), absl::InfiniteFuture());
  EXPECT_THAT(recorder.Await(1),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("grpc://worker-3: the peer is silent: no sign of life for")));
  EXPECT_THAT(link->Health(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("silent")));
}

TEST(GrpcLinkTest, APeerThatComputesLongerThanTheSilenceAllowedIsWaitedFor) {
  // Answers the swap after so many heartbeats that more than the allowed time has passed.
  ScriptedWorker worker([](grpc::ServerContext*, Stream* stream) {
    v1::LinkMessage message;
    stream->Read(&message);
    stream->Write(Accepted());
    stream->Read(&message);
    for (int i = 0; i < 6 && stream->Read(&message); ++i) {
      EXPECT_EQ(message.heartbeat().number(), i + 1);
      v1::LinkReply reply;
      *reply.mutable_heartbeat() = message.heartbeat();
      stream->Write(reply);
    }
    stream->Write(Answer(1, 16));
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  });
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect(absl::Seconds(30), absl::Seconds(1)));
  SwapRecorder recorder;
  recorder.Send(*link, Header(1), std::vector<float>(4));
  EXPECT_OK(recorder.Await(1).status());
  EXPECT_OK(link->Health());
}

TEST(GrpcLinkTest, AnAnswerToAHeartbeatNeverSentClosesTheLink) {
  v1::LinkReply heartbeat;
  heartbeat.mutable_heartbeat()->set_number(3);
  SwapRecorder recorder;
  EXPECT_THAT(EndAfter({heartbeat}, recorder),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("heartbeat 3")));
}

TEST(GrpcLinkTest, SaysWhatASwapMayCarry) {
  ScriptedWorker worker(AfterFirstSwap({}));
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect());
  EXPECT_EQ(link->bounds().max_rows, 100);
  EXPECT_EQ(link->bounds().max_bytes, kMaxSwapBytes);
}

TEST(GrpcLinkTest, OpenFailsWithThePeersReason) {
  ScriptedWorker worker([](grpc::ServerContext*, Stream*) {
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "this worker speaks 2, the peer 1");
  });
  EXPECT_THAT(worker.Connect(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("grpc://worker-3: this worker speaks 2, the peer 1")));
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
  reply.mutable_accepted()->set_protocol_version(1);
  EXPECT_THAT(worker.Connect(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("protocol version: expected 2, the peer speaks 1")));
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
  options.hidden_size = 2;
  EXPECT_THAT(OpenGrpcLink(ExchangeServer::Dial(target), options),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST(GrpcLinkTest, OpenRefusesOptionsThatMakeNoSense) {
  EXPECT_THAT(OpenGrpcLink(ExchangeServer::Dial("127.0.0.1:1"), GrpcLinkOptions()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hidden_size")));
  GrpcLinkOptions options;
  options.hidden_size = 2;
  options.silence_timeout = absl::ZeroDuration();
  EXPECT_THAT(OpenGrpcLink(ExchangeServer::Dial("127.0.0.1:1"), options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("silence_timeout")));
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
  EXPECT_EQ(first.open().wire_dtype(), v1::WIRE_DTYPE_F32);
  EXPECT_TRUE(first.open().has_rows_in_messages());
}

}  // namespace
}  // namespace ccoe::exchange
