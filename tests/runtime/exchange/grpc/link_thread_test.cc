// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/link_thread.h"

#include <sys/resource.h>
#include <unistd.h>

#include <system_error>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::exchange {
namespace {

using ::testing::ElementsAre;

TEST(LinkThreadTest, RunsWorkInOrderOnAThreadOfItsOwnAndAllOfItBeforeItIsGone) {
  std::vector<int> done;
  std::thread::id where;
  {
    LinkThread thread;
    for (const int i : {1, 2, 3}) {
      thread.Run([&, i] {
        done.push_back(i);
        where = std::this_thread::get_id();
      });
    }
  }
  EXPECT_THAT(done, ElementsAre(1, 2, 3));
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST(LinkThreadTest, WithoutWorkThereIsNoThread) { LinkThread thread; }

// Exits with 0 where work ran here, since other threads took all the room there is for stacks.
[[noreturn]] void RunWithoutThreads() {
  const rlimit limit = {size_t{256} << 20, size_t{256} << 20};
  setrlimit(RLIMIT_AS, &limit);
  absl::Notification never;
  std::vector<std::thread> others;
  others.reserve(1000);
  try {
    while (others.size() < 1000) {
      others.emplace_back([&never] { never.WaitForNotification(); });
    }
  } catch (const std::system_error&) {
  }
  int here = 0;
  {
    LinkThread thread;
    for (int i = 0; i < 2; ++i) {
      thread.Run([&here, caller = std::this_thread::get_id()] {
        here += std::this_thread::get_id() == caller ? 1 : 0;
      });
    }
  }
  _exit(here == 2 ? 0 : 1);
}

TEST(LinkThreadDeathTest, WithoutAThreadWorkRunsOnTheCallersThread) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more address space than the limit leaves";
#endif
  EXPECT_EXIT(RunWithoutThreads(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ccoe::exchange
