// SPDX-License-Identifier: Apache-2.0
// A worker process that is killed in the middle of a swap, and one that comes back.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/fake_swap_handler.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::FakeSwapHandler;

// A negating_worker process. Ends with this object, or with this process.
class WorkerProcess {
 public:
  explicit WorkerProcess(bool hold) {
    int input[2], output[2];
    EXPECT_EQ(pipe2(input, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(output, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(input[0], STDIN_FILENO);
      dup2(output[1], STDOUT_FILENO);
      execl("tests/runtime/exchange/negating_worker", "negating_worker", "4",
            hold ? "hold" : nullptr, nullptr);
      _exit(127);
    }
    close(input[0]);
    close(output[1]);
    stdin_ = input[1];
    FILE* lines = fdopen(output[0], "r");
    EXPECT_EQ(std::fscanf(lines, "%d", &port_), 1) << "the worker process did not start";
    std::fclose(lines);
  }
  ~WorkerProcess() {
    Kill();
    close(stdin_);
  }

  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  // Keeps its connections and does nothing; the worker, too, ends by Kill.
  void Stop() const {
    kill(pid_, SIGSTOP);
    waitpid(pid_, nullptr, WUNTRACED);  // until no thread of it runs
  }
  void Continue() const { kill(pid_, SIGCONT); }

  absl::StatusOr<std::unique_ptr<ActivationLink>> Connect(
      absl::Duration silence = absl::Milliseconds(400)) const {
    GrpcLinkOptions options;
    options.identity.hidden_size = 4;
    options.patience.silence = silence;
    return OpenGrpcLink(ExchangeServer::Dial(absl::StrCat("127.0.0.1:", port_)), options);
  }

 private:
  pid_t pid_ = 0;
  int stdin_ = -1;
  int port_ = 0;
};

SwapHeader Header(uint64_t swap) { return MakeHeader(swap, {{swap, 0, 2, ReturnRows::kAll}}, 4); }

TEST(PeerDeathTest, AKilledWorkerEndsItsSwapsAndALinkToAFreshOneWorks) {
  WorkerProcess worker(/*hold=*/true);
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect());
  SwapRecorder recorder;
  for (uint64_t swap = 1; swap <= 3; ++swap) {
    recorder.Send(*link, Header(swap), TaggedRows(Header(swap), 1));
  }
  EXPECT_OK(link->Health());
  worker.Kill();
  for (uint64_t swap = 1; swap <= 3; ++swap) {
    EXPECT_THAT(recorder.Await(swap), FailsWith(SwapReason::kLinkBroken));
    EXPECT_EQ(recorder.calls(swap), 1);
  }
  EXPECT_THAT(link->Health(), FailsWith(SwapReason::kLinkBroken));
  recorder.Send(*link, Header(4), TaggedRows(Header(4), 1));
  EXPECT_THAT(recorder.Await(4), FailsWith(SwapReason::kLinkBroken));

  WorkerProcess fresh(/*hold=*/false);
  ASSERT_OK_AND_ASSIGN(const auto again, fresh.Connect());
  recorder.Send(*again, Header(5), TaggedRows(Header(5), 1));
  const absl::StatusOr<SwapResult> answer = recorder.Await(5);
  ASSERT_OK(answer.status());
  EXPECT_EQ(answer->rows, FakeSwapHandler::Negated(Header(5), TaggedRows(Header(5), 1)).rows);
}

TEST(PeerDeathTest, AnIdleLinkNoticesTheDeathToo) {
  WorkerProcess worker(/*hold=*/false);
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect());
  worker.Kill();
  const absl::Time deadline = absl::Now() + kTestPatience;
  while (link->Health().ok() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(2));
  EXPECT_THAT(link->Health(), FailsWith(SwapReason::kLinkBroken));
}

TEST(PeerDeathTest, AStoppedWorkerIsNoticedThoughItsConnectionLives) {
  WorkerProcess worker(/*hold=*/false);
  ASSERT_OK_AND_ASSIGN(auto link, worker.Connect());
  SwapRecorder recorder;
  recorder.Send(*link, Header(1), TaggedRows(Header(1), 1));
  ASSERT_OK(recorder.Await(1).status());
  worker.Stop();
  for (uint64_t swap = 2; swap <= 3; ++swap) {
    recorder.Send(*link, Header(swap), TaggedRows(Header(swap), 1));
  }
  for (uint64_t swap = 2; swap <= 3; ++swap) {
    EXPECT_THAT(recorder.Await(swap),
                FailsWith(SwapReason::kLinkBroken, ::testing::HasSubstr("the peer is silent")));
  }
  EXPECT_THAT(link->Health(), FailsWith(SwapReason::kLinkBroken));
  link.reset();  // a stopped peer holds up nobody
  worker.Continue();
  ASSERT_OK_AND_ASSIGN(const auto again, worker.Connect());
  recorder.Send(*again, Header(4), TaggedRows(Header(4), 1));
  EXPECT_OK(recorder.Await(4).status());
}

TEST(PeerDeathTest, AWorkerThatComputesLongIsNoStoppedOne) {
  WorkerProcess worker(/*hold=*/true);
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect(absl::Seconds(1)));
  SwapRecorder recorder;
  recorder.Send(*link, Header(1), TaggedRows(Header(1), 1));
  // Three times the silence allowed.
  const absl::Time late = absl::Now() + absl::Seconds(3);
  while (link->healthy() && absl::Now() < late) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_OK(link->Health());
  EXPECT_THAT(link->WhereIs(1), ::testing::HasSubstr("waits at the worker, which computes math@1"));
  link->Close();
  EXPECT_THAT(recorder.Await(1),
              FailsWith(SwapReason::kLinkBroken, ::testing::HasSubstr("closed")));
}

}  // namespace
}  // namespace ccoe::exchange
