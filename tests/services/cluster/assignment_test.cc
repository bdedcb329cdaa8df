#include "services/cluster/assignment.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(AssignBundlesTest, SpreadsBundlesInTurn) {
  EXPECT_THAT(AssignBundles({"a", "b", "c", "d", "e"}, 2),
              ElementsAre(ElementsAre("a", "c", "e"), ElementsAre("b", "d")));
  EXPECT_THAT(AssignBundles({"a", "b"}, 1), ElementsAre(ElementsAre("a", "b")));
}

TEST(AssignBundlesTest, MoreWorkersThanBundlesHoldReplicas) {
  EXPECT_THAT(AssignBundles({"a", "b"}, 5),
              ElementsAre(ElementsAre("a"), ElementsAre("b"), ElementsAre("a"), ElementsAre("b"),
                          ElementsAre("a")));
}

TEST(AssignBundlesTest, WithoutBundlesThereAreNoWorkers) {
  EXPECT_THAT(AssignBundles({}, 3), IsEmpty());
}

}  // namespace
}  // namespace ccoe::services
