// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/json.h"

#include <string>

#include "gmock/gmock.h"
#include "runtime/base/file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

TEST(JsonTest, ParsesWhatIsValid) {
  ASSERT_OK_AND_ASSIGN(const nlohmann::json value,
                       ParseJson(R"({"a": [1, {"b": null}], "c": "ü"})", "here"));
  EXPECT_EQ(value["a"][0], 1);
  EXPECT_EQ(value["c"], "ü");
}

TEST(JsonTest, ErrorsSayWhereAndWhat) {
  for (const char* bad : {"", "{", "[1,]", "{\"a\":1,}", "nul", "\"\x80\"", "1 2", "1e999"}) {
    EXPECT_THAT(ParseJson(bad, "line 7"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("line 7: ")))
        << bad;
  }
}

TEST(JsonTest, RefusesAKeyThatStandsTwice) {
  EXPECT_THAT(ParseJson(R"({"x": {"a": 1, "b": 2, "a": 3}})", "f"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"a\" stands twice")));
  EXPECT_OK(ParseJson(R"([{"a": 1}, {"a": {"a": 1}}])", "f"));
}

TEST(JsonTest, BoundsTheNesting) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_OK(ParseJson(nested(64), "f"));
  EXPECT_THAT(ParseJson(nested(65), "f"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("64 levels")));
  EXPECT_THAT(ParseJson(std::string(10'000'000, '['), "f"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(JsonTest, FileErrorsNameTheFile) {
  const testing::TempFolder folder;
  ASSERT_OK(WriteFileAtomically(folder / "bad.json", {"{]"}));
  EXPECT_THAT(ReadJsonFile(folder / "bad.json", 100),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("bad.json"), HasSubstr("byte 2"))));
  EXPECT_THAT(ReadJsonFile(folder / "none.json", 100), StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace ccoe
