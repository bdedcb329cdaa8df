// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/nccl/link_slots.h"

#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(LinkSlotsTest, ALinkTakesOneAndGivesItBack) {
  const auto slots = std::make_shared<LinkSlots>(2);
  ASSERT_OK_AND_ASSIGN(auto first, slots->Take());
  ASSERT_OK_AND_ASSIGN(const auto second, slots->Take());
  EXPECT_THAT(slots->Take(), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("2 links are open on this GPU, at most 2")));
  EXPECT_THAT(slots->Promise(), StatusIs(absl::StatusCode::kResourceExhausted));
  first.reset();
  EXPECT_OK(slots->Promise());
  EXPECT_OK(slots->Take().status());
}

TEST(LinkSlotsTest, ASlotOutlivesWhoGaveIt) {
  auto slots = std::make_shared<LinkSlots>(1);
  ASSERT_OK_AND_ASSIGN(auto slot, slots->Take());
  slots.reset();
  slot.reset();
}

TEST(LinkSlotsTest, PeersThatDoNotComeAreBounded) {
  const auto slots = std::make_shared<LinkSlots>(1000);
  for (int i = 0; i < LinkSlots::kMaxPromises; ++i) EXPECT_OK(slots->Promise());
  EXPECT_THAT(slots->Promise(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("did not come")));
  slots->Kept();
  EXPECT_OK(slots->Promise());
}

}  // namespace
}  // namespace ccoe::exchange
