// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/engine_options.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::IsOk;
using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

template <typename Change>
absl::Status ValidateWith(Change change) {
  EngineOptions options;
  change(options);
  return Validate(options);
}

TEST(EngineOptionsTest, DefaultsAreValid) { EXPECT_THAT(Validate(EngineOptions()), IsOk()); }

TEST(EngineOptionsTest, EveryOptionIsHeldToItsRange) {
  const auto invalid = [](const char* name) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(name));
  };
  EXPECT_THAT(ValidateWith([](auto& o) { o.page_tokens = 0; }), invalid("page_tokens"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.kv_tokens = 31; }), invalid("kv_tokens"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.max_step_tokens = 0; }), invalid("max_step_tokens"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.max_prefill_chunk = -1; }),
              invalid("max_prefill_chunk"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.max_running = 0; }), invalid("max_running"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.max_waiting = 0; }), invalid("max_waiting"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.max_steps_in_flight = 0; }),
              invalid("max_steps_in_flight"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.wire_dtype = kernels::DType::kF16; }),
              invalid("found f16"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.replica_patience = -absl::Seconds(1); }),
              invalid("replica_patience"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.room_patience = -absl::Seconds(1); }),
              invalid("room_patience"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.hung_after = -absl::Seconds(1); }),
              invalid("hung_after"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.step_patience = -absl::Seconds(1); }),
              invalid("step_patience"));
  EXPECT_THAT(ValidateWith([](auto& o) { o.moe_policy.min_active_experts = 0; }),
              invalid("moe policy"));
}

}  // namespace
}  // namespace ccoe::engine
