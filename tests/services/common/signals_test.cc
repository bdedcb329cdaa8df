// SPDX-License-Identifier: Apache-2.0
#include "services/common/signals.h"

#include <signal.h>
#include <unistd.h>

#include <thread>

#include "absl/time/clock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

// Each in a process of its own, for a process has one watcher.
TEST(SignalsDeathTest, CallsBackOnTheFirstSignalWithItsNumber) {
  EXPECT_EXIT(
      {
        int seen = 0;
        {
          auto watcher = SignalWatcher::Create([&seen](int number) { seen = number; });
          kill(getpid(), SIGTERM);
          (*watcher)->Wait();
        }
        _exit(seen == SIGTERM ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "draining");
}

TEST(SignalsDeathTest, EndsAtOnceOnTheSecondSignalThoughTheDrainHangs) {
  EXPECT_EXIT(
      {
        auto watcher = SignalWatcher::Create([](int) { absl::SleepFor(absl::Hours(1)); });
        kill(getpid(), SIGTERM);
        (*watcher)->Wait();
        kill(getpid(), SIGINT);
        absl::SleepFor(absl::Hours(1));
      },
      ::testing::ExitedWithCode(128 + SIGINT), "second signal");
}

TEST(SignalsDeathTest, ThreadsThatWereThereBeforeDoNotMatter) {
  EXPECT_EXIT(
      {
        std::thread([] { absl::SleepFor(absl::Hours(1)); }).detach();
        auto watcher = SignalWatcher::Create(nullptr);
        kill(getpid(), SIGTERM);
        (*watcher)->Wait();
        _exit(0);
      },
      ::testing::ExitedWithCode(0), "draining");
}

TEST(SignalsDeathTest, ThereIsOneAtATime) {
  EXPECT_EXIT(
      {
        bool good = false;
        {
          auto first = SignalWatcher::Create(nullptr);
          good = first.ok() && absl::IsAlreadyExists(SignalWatcher::Create(nullptr).status());
        }
        _exit(good && SignalWatcher::Create(nullptr).ok() ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST(SignalsDeathTest, StopsWithoutASignal) {
  EXPECT_EXIT(
      {
        {
          auto watcher = SignalWatcher::Create(nullptr);
          if (!watcher.ok() || (*watcher)->signalled()) _exit(1);
        }
        _exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST(SignalsDeathTest, SurvivesAWriteToAPipeThatNobodyReads) {
  EXPECT_EXIT(
      {
        auto watcher = SignalWatcher::Create(nullptr);
        int ends[2];
        if (pipe(ends) != 0) _exit(1);
        close(ends[0]);
        _exit(write(ends[1], "x", 1) == -1 ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ccoe::services
