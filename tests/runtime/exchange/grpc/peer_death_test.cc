// A worker process that is killed in the middle of a swap, and one that comes back.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
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
using ::ccoe::testing::StatusIs;

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

  absl::StatusOr<std::unique_ptr<ActivationLink>> Connect() const {
    GrpcLinkOptions options;
    options.hidden_size = 4;
    options.silence_timeout = absl::Milliseconds(400);
    return OpenGrpcLink(ExchangeServer::Dial(absl::StrCat("127.0.0.1:", port_)), options);
  }

 private:
  pid_t pid_ = 0;
  int stdin_ = -1;
  int port_ = 0;
};

StepHeader Header(uint64_t step) { return MakeHeader(step, {{step, 0, 2, ReturnRows::kAll}}, 4); }

TEST(PeerDeathTest, AKilledWorkerEndsItsSwapsAndALinkToAFreshOneWorks) {
  WorkerProcess worker(/*hold=*/true);
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect());
  SwapRecorder recorder;
  for (uint64_t step = 1; step <= 3; ++step) {
    recorder.Send(*link, Header(step), TaggedRows(Header(step), 1));
  }
  EXPECT_OK(link->Health());
  worker.Kill();
  for (uint64_t step = 1; step <= 3; ++step) {
    EXPECT_THAT(recorder.Await(step), StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_EQ(recorder.calls(step), 1);
  }
  EXPECT_THAT(link->Health(), StatusIs(absl::StatusCode::kUnavailable));
  recorder.Send(*link, Header(4), TaggedRows(Header(4), 1));
  EXPECT_THAT(recorder.Await(4), StatusIs(absl::StatusCode::kUnavailable));

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
  EXPECT_THAT(link->Health(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(PeerDeathTest, AStoppedWorkerIsNoticedThoughItsConnectionLives) {
  WorkerProcess worker(/*hold=*/false);
  ASSERT_OK_AND_ASSIGN(auto link, worker.Connect());
  SwapRecorder recorder;
  recorder.Send(*link, Header(1), TaggedRows(Header(1), 1));
  ASSERT_OK(recorder.Await(1).status());
  worker.Stop();
  for (uint64_t step = 2; step <= 3; ++step) {
    recorder.Send(*link, Header(step), TaggedRows(Header(step), 1), absl::InfiniteFuture());
  }
  for (uint64_t step = 2; step <= 3; ++step) {
    EXPECT_THAT(recorder.Await(step), StatusIs(absl::StatusCode::kUnavailable,
                                               ::testing::HasSubstr("the peer is silent")));
  }
  EXPECT_THAT(link->Health(), StatusIs(absl::StatusCode::kUnavailable));
  link.reset();  // a stopped peer holds up nobody
  worker.Continue();
  ASSERT_OK_AND_ASSIGN(const auto again, worker.Connect());
  recorder.Send(*again, Header(4), TaggedRows(Header(4), 1));
  EXPECT_OK(recorder.Await(4).status());
}

TEST(PeerDeathTest, AWorkerThatComputesLongIsNoStoppedOne) {
  WorkerProcess worker(/*hold=*/true);
  ASSERT_OK_AND_ASSIGN(const auto link, worker.Connect());
  SwapRecorder recorder;
  // Several times the silence allowed: the deadline comes first.
  recorder.Send(*link, Header(1), TaggedRows(Header(1), 1), absl::Now() + absl::Seconds(2));
  EXPECT_THAT(recorder.Await(1), StatusIs(absl::StatusCode::kDeadlineExceeded));
}

}  // namespace
}  // namespace ccoe::exchange
