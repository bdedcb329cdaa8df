#include "runtime/exchange/grpc/link_thread.h"

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

}  // namespace
}  // namespace ccoe::exchange
