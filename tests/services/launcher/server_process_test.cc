// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/server_process.h"

#include <signal.h>
#include <unistd.h>

#include "gtest/gtest.h"
#include "httplib.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

int HealthStatus(const ServerProcess& process) {
  httplib::Client http("http://" + process.http_address());
  const auto result = http.Get("/healthz");
  return result ? result->status : 0;
}

TEST(ServerProcessTest, IsHealthyBetweenLoadingAndTheSignal) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  ProcessOptions options;
  options.http = "127.0.0.1:0";
  options.announce_fd = fds[1];
  ASSERT_OK_AND_ASSIGN(const auto process, ServerProcess::Create(options, 1, {}));
  EXPECT_EQ(HealthStatus(*process), 503);
  process->BeginServing("127.0.0.1:7", [] { return absl::OkStatus(); });
  EXPECT_EQ(HealthStatus(*process), 200);
  char line[100] = {};
  ASSERT_GT(read(fds[0], line, sizeof(line) - 1), 0);
  EXPECT_EQ(std::string(line), "127.0.0.1:7 " + process->http_address() + "\n");
  close(fds[0]);
  EXPECT_FALSE(process->stopping());
  kill(getpid(), SIGTERM);
  process->WaitForSignal();
  EXPECT_TRUE(process->stopping());
  EXPECT_EQ(HealthStatus(*process), 503);
}

TEST(ServerProcessTest, ASignalWhileLoadingEndsTheProcessAtOnce) {
  EXPECT_EXIT(
      {
        ProcessOptions options;
        options.http = "127.0.0.1:0";
        auto process = ServerProcess::Create(options, 1, {});
        kill(getpid(), SIGTERM);
        pause();
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace

}  // namespace ccoe::services
