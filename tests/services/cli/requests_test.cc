// SPDX-License-Identifier: Apache-2.0
#include "services/cli/requests.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ParseRequestsTest, ReadsIdsAndTextAndSkipsBlankLines) {
  ASSERT_OK_AND_ASSIGN(
      const auto requests,
      ParseRequests("{\"id\":\"a\",\"token_ids\":[1,2]}\n\n{\"id\":\"b\",\"text\":\"x\"}\n", "f"));
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_THAT(requests[0].token_ids, ElementsAre(1, 2));
  EXPECT_FALSE(requests[0].is_text);
  EXPECT_EQ(requests[1].text, "x");
  EXPECT_TRUE(requests[1].is_text);
}

TEST(ParseRequestsTest, SaysLineAndFieldOfWhatIsWrong) {
  struct Case {
    const char* content;
    const char* message;
  };
  const Case cases[] = {
      {"{\"id\":\"a\",\"text\":\"x\"}\n{broken", "f:2"},
      {"[1]", "object"},
      {"{\"text\":\"x\"}", "\"id\""},
      {"{\"id\":\"a\"}", "either"},
      {"{\"id\":\"a\",\"text\":\"x\",\"token_ids\":[1]}", "either"},
      {"{\"id\":\"a\",\"token_ids\":[-1]}", "found -1"},
      {"{\"id\":\"a\",\"token_ids\":[1.5]}", "found 1.5"},
      {"{\"id\":\"a\",\"token_ids\":7}", "list"},
      {"{\"id\":\"a\",\"text\":7}", "string"},
      {"{\"id\":\"a\",\"text\":\"x\"}\n{\"id\":\"a\",\"text\":\"y\"}", "twice"},
      {"\n", "no request"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(ParseRequests(c.content, "f"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.message)))
        << c.content;
  }
}

TEST(ReadRequestsTest, NamesTheMissingFile) {
  EXPECT_THAT(ReadRequests("/nowhere/requests.jsonl"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("requests.jsonl")));
}

}  // namespace
}  // namespace ccoe::cli
