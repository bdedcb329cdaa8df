#include "runtime/tokenizer/metaspace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using Json = nlohmann::json;

TEST(MetaspaceTest, ReadsBothForms) {
  ASSERT_OK_AND_ASSIGN(
      const Metaspace now,
      ParseMetaspace(Json::parse(R"({"replacement":"▁","prepend_scheme":"first","split":false})"),
                     ""));
  EXPECT_EQ(now.prepend, PrependScheme::kFirst);
  EXPECT_FALSE(now.split);
  ASSERT_OK_AND_ASSIGN(
      const Metaspace before,
      ParseMetaspace(Json::parse(R"({"replacement":"▁","add_prefix_space":false})"), ""));
  EXPECT_EQ(before.prepend, PrependScheme::kNever);
  EXPECT_TRUE(before.split);
}

TEST(MetaspaceTest, RefusesContradictions) {
  for (const char* json :
       {R"({"replacement":""})", R"({"replacement":"ab"})", R"({})",
        R"({"replacement":"_","prepend_scheme":"x"})",
        R"({"replacement":"_","prepend_scheme":"always","add_prefix_space":false})"}) {
    EXPECT_THAT(ParseMetaspace(Json::parse(json), "here"),
                StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("here")));
  }
}

}  // namespace
}  // namespace ccoe::tokenizer
