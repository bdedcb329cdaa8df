// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/request.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::IsOk;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kVocab = 512;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

template <typename Change>
absl::Status ValidateWith(Change change) {
  SamplingParams params;
  change(params);
  return Validate(params, kVocab);
}

TEST(SamplingTest, DefaultsAreValid) { EXPECT_THAT(Validate(SamplingParams(), kVocab), IsOk()); }

TEST(SamplingTest, BoundsThemselvesAreValid) {
  SamplingParams params;
  params.temperature = 10.0f;
  params.top_k = std::numeric_limits<int32_t>::max();
  params.top_p = 1.0f;
  params.min_p = 0.999f;
  params.repetition_penalty = 10.0f;
  params.presence_penalty = -2.0f;
  params.frequency_penalty = 2.0f;
  params.stop_token_ids.assign(64, 511);
  params.max_tokens = 1;
  params.min_tokens = 1;
  params.logprobs = 20;
  EXPECT_THAT(Validate(params, kVocab), IsOk());
}

TEST(SamplingTest, EveryFloatIsHeldToItsRangeAndNanIsRefused) {
  struct Case {
    float SamplingParams::*field;
    const char* name;
    std::vector<float> bad;
  };
  const std::vector<Case> cases = {
      {&SamplingParams::temperature, "temperature", {-0.1f, 10.1f, kNan, kInf}},
      {&SamplingParams::top_p, "top_p", {0.0f, -1.0f, 1.1f, kNan}},
      {&SamplingParams::min_p, "min_p", {-0.1f, 1.0f, kNan}},
      {&SamplingParams::repetition_penalty, "repetition_penalty", {0.0f, -1.0f, 10.5f, kNan, kInf}},
      {&SamplingParams::presence_penalty, "presence_penalty", {-2.1f, 2.1f, kNan}},
      {&SamplingParams::frequency_penalty, "frequency_penalty", {-2.1f, 2.1f, kNan}},
  };
  for (const Case& c : cases) {
    for (float value : c.bad) {
      SamplingParams params;
      params.*(c.field) = value;
      EXPECT_THAT(Validate(params, kVocab),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           AllOf(HasSubstr(c.name), HasSubstr("expected"), HasSubstr("found"))))
          << c.name << " = " << value;
    }
  }
}

TEST(SamplingTest, CountsAndIdsAreHeldToTheirRanges) {
  const auto invalid = [](const char* name) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(name));
  };
  EXPECT_THAT(ValidateWith([](auto& p) { p.top_k = -1; }), invalid("top_k"));
  EXPECT_THAT(ValidateWith([](auto& p) { p.max_tokens = 0; }), invalid("max_tokens"));
  EXPECT_THAT(ValidateWith([](auto& p) { p.min_tokens = -1; }), invalid("min_tokens"));
  EXPECT_THAT(ValidateWith([](auto& p) { p.min_tokens = p.max_tokens + 1; }),
              invalid("min_tokens"));
  EXPECT_THAT(ValidateWith([](auto& p) { p.logprobs = -2; }), invalid("logprobs"));
  EXPECT_THAT(ValidateWith([](auto& p) { p.logprobs = 21; }), invalid("logprobs"));
  EXPECT_THAT(ValidateWith([](auto& p) { p.stop_token_ids = {3, 512}; }), invalid("found 512"));
  EXPECT_THAT(ValidateWith([](auto& p) { p.stop_token_ids = {-1}; }), invalid("found -1"));
  EXPECT_THAT(ValidateWith([](auto& p) { p.stop_token_ids.assign(65, 1); }), invalid("found 65"));
}

}  // namespace
}  // namespace ccoe::engine
