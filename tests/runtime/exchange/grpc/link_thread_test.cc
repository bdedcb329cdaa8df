#include "runtime/exchange/grpc/link_thread.h"

#include <sys/resource.h>
#include <unistd.h>

#include <thread>
#include <vector>

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

// Exits with 0 where work ran here, since there is no room for the stack of another thread.
[[noreturn]] void RunWithoutThreads() {
  const rlimit limit = {size_t{64} << 20, size_t{64} << 20};
  setrlimit(RLIMIT_AS, &limit);
  bool here = false;
  {
    LinkThread thread;
    thread.Run([&here, caller = std::this_thread::get_id()] {
      here = std::this_thread::get_id() == caller;
    });
  }
  _exit(here && !ThreadsToSpare() ? 0 : 1);
}

TEST(LinkThreadDeathTest, WithoutThreadsToSpareWorkRunsOnTheCallersThread) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more address space than the limit leaves";
#endif
  EXPECT_TRUE(ThreadsToSpare());
  EXPECT_EXIT(RunWithoutThreads(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ccoe::exchange
