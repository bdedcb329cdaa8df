// SPDX-License-Identifier: Apache-2.0
#include "services/common/config_file.h"

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ConfigFileTest, ReadsSectionsKeysAndValuesWithTheirLines) {
  ASSERT_OK_AND_ASSIGN(const auto sections, ParseConfig("# first\n"
                                                        "[ router ]  # a comment\r\n"
                                                        "  lease=6.5\n"
                                                        "\n"
                                                        "[up]\n"
                                                        "processes = true # more\n"
                                                        "experts = 'C:\\#1'\n"
                                                        "list = [\"a, ]\", # one\n"
                                                        "  'b',\n"
                                                        "]\n"
                                                        "none = []",
                                                        "f"));
  ASSERT_EQ(sections.size(), 2u);
  EXPECT_EQ(sections[0].name, "router");
  EXPECT_EQ(sections[0].line, 2);
  ASSERT_EQ(sections[0].entries.size(), 1u);
  EXPECT_EQ(sections[0].entries[0].key, "lease");
  EXPECT_THAT(sections[0].entries[0].values, ElementsAre("6.5"));
  EXPECT_EQ(sections[0].entries[0].line, 3);
  const auto& up = sections[1].entries;
  ASSERT_EQ(up.size(), 4u);
  EXPECT_THAT(up[0].values, ElementsAre("true"));
  EXPECT_THAT(up[1].values, ElementsAre("C:\\#1"));
  EXPECT_FALSE(up[1].is_list);
  EXPECT_THAT(up[2].values, ElementsAre("a, ]", "b"));
  EXPECT_TRUE(up[2].is_list);
  EXPECT_EQ(up[3].line, 11);
  EXPECT_THAT(up[3].values, IsEmpty());
}

TEST(ConfigFileTest, AnEmptyFileHasNoSections) {
  ASSERT_OK_AND_ASSIGN(const auto sections, ParseConfig(" \n# nothing\n", "f"));
  EXPECT_THAT(sections, IsEmpty());
}

TEST(ConfigFileTest, ReadsTheEscapesOfToml) {
  ASSERT_OK_AND_ASSIGN(const auto sections, ParseConfig(R"([a]
v = "\"\\\n\t\r\b\f \u00e9\u20AC\U0001F600")",
                                                        "f"));
  EXPECT_EQ(sections[0].entries[0].values[0], "\"\\\n\t\r\b\f é€😀");
}

TEST(ConfigFileTest, SaysWhereAFileIsWrong) {
  const auto refused = [](const std::string& text, const std::string& words) {
    EXPECT_THAT(ParseConfig(text, "dir/f.toml").status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)))
        << text;
  };
  refused("threads = 1", "dir/f.toml:1: expected a section such as [up] before the first key");
  refused("[up]\n\nthreads 1", "dir/f.toml:3: expected = after threads, found 1");
  refused("[up]\nthreads =",
          "dir/f.toml:2: expected a number, true, false, a list or text in "
          "quotes, found the end of the line");
  refused("[up]\ndevice = cpu", "text in quotes, found cpu");
  refused("[up]\nthreads = 1 2", "dir/f.toml:2: expected the end of the line, found 2");
  refused("[up]\na = \"x", "dir/f.toml:2: expected a closing \"");
  refused("[up]\na = 'x\n'", "dir/f.toml:2: expected a closing '");
  refused("[up]\na = \"\\x\"", "\\uXXXX");
  refused("[up]\na = \"\\uD800\"", "\\uXXXX");
  refused("[up]\na = \"\\u00\"", "\\uXXXX");
  refused("[up]\na = \"\\", "\\uXXXX");
  refused("[up]\na = [1 2]", "expected , or ] in a list, found 2]");
  refused("[up]\na = [1,\n2", "dir/f.toml:3: expected , or ] in a list");
  refused("[up\na = 1", "dir/f.toml:1: expected ] after [up");
  refused("[]", "dir/f.toml:1: expected a section's name, found ]");
  refused("[up] a = 1", "dir/f.toml:1: expected the end of the line, found a = 1");
  refused("[up]\n= 1", "dir/f.toml:2: expected a key or a [section], found = 1");
  refused("[up]\na = 1\nb = 1\na = 2", "dir/f.toml:4: a stands in line 2 already");
  refused("[up]\n[router]\n[up]", "dir/f.toml:3: section [up] stands in line 1 already");
}

TEST(ConfigFileTest, WhatIsQuotedReadsAsTheSameBytes) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    while (random() % 8 != 0) text += static_cast<char>(random());
    ASSERT_OK_AND_ASSIGN(const auto sections,
                         ParseConfig(absl::StrCat("[a]\nb = ", QuotedForConfig(text)), "f"));
    EXPECT_THAT(sections[0].entries[0].values, ElementsAre(text));
  }
}

TEST(ConfigFileTest, AnythingIsReadOrRefusedWithItsLine) {
  const std::string whole =
      "[up]\nthreads = 1\nlist = [\"a\", 'b', # c\n2]\ntext = \"\\u00e9\\n\"\n[router]\n";
  std::mt19937 random(2);
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text = whole;
    for (uint32_t changes = 1 + random() % 4; changes > 0; --changes) {
      const size_t at = random() % text.size();
      if (random() % 2 == 0) {
        text[at] = whole[random() % whole.size()];
      } else {
        text.erase(at, random() % 8);
      }
      if (text.empty()) text = "#";
    }
    const auto sections = ParseConfig(text, "f");
    if (sections.ok()) continue;
    ++refused;
    EXPECT_THAT(std::string(sections.status().message()), ::testing::ContainsRegex("^f:[1-7]: "))
        << text;
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace ccoe::services
