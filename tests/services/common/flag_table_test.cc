// SPDX-License-Identifier: Apache-2.0
#include "services/common/flag_table.h"

#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/status_macros.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::IsOk;
using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

enum class Color { kRed, kBlue, kUnnamed };

struct Options {
  std::string name = "n";
  bool loud = false;
  std::vector<std::string> folders;
  std::vector<std::string> listen = {"here"};
  int64_t tokens = 7;
  int threads = 2;
  absl::Duration lease = absl::Milliseconds(1500);
  Color color = Color::kBlue;
};

FlagTable FlagsOf(Options& options) {
  FlagTable flags;
  flags.Add("name", &options.name, "Its name.").Required();
  flags.Add("loud", &options.loud, "Shout.");
  flags.AddList("folder", &options.folders, "Folders.");
  flags.AddOnly("listen", &options.listen, "Where.");
  flags.AddWhole("tokens", &options.tokens, 1, INT64_MAX, "Tokens.");
  flags.AddWhole("threads", &options.threads, 0, 64, "Threads.");
  flags.AddSeconds("lease", &options.lease, 0.5, 600, "Seconds.");
  flags.AddChoice<Color>("color", &options.color, {{"red", Color::kRed}, {"blue", Color::kBlue}},
                         "Color.");
  return flags;
}

absl::Status Read(const std::string& text, Options& options) {
  FlagTable flags = FlagsOf(options);
  CCOE_ASSIGN_OR_RETURN(const auto sections, ParseConfig(text, "f"));
  return ReadConfigSection(sections.at(0), "f", flags);
}

TEST(FlagTableTest, ASectionIsWrittenAndReadBack) {
  Options options;
  options.name = "a \"b\" #1\\";
  options.loud = true;
  options.folders = {"x", "y, z"};
  options.listen = {"there"};
  options.tokens = int64_t{1} << 60;
  options.threads = 0;
  options.lease = absl::Seconds(0.7) + absl::Nanoseconds(1);
  options.color = Color::kRed;
  Options read;
  ASSERT_OK(Read(ConfigSectionText("a", FlagsOf(options), /*with_help=*/true), read));
  EXPECT_EQ(read.name, options.name);
  EXPECT_TRUE(read.loud);
  EXPECT_EQ(read.folders, options.folders);
  EXPECT_EQ(read.listen, options.listen);
  EXPECT_EQ(read.tokens, options.tokens);
  EXPECT_EQ(read.threads, 0);
  EXPECT_EQ(read.lease, options.lease);
  EXPECT_EQ(read.color, Color::kRed);
}

TEST(FlagTableTest, WhatAFileDoesNotNameStaysAsItWas) {
  Options options;
  ASSERT_OK(Read("[a]\nthreads = 5\nfolder = \"one\"", options));
  EXPECT_EQ(options.threads, 5);
  EXPECT_EQ(options.tokens, 7);
  EXPECT_THAT(options.folders, ElementsAre("one"));
}

TEST(FlagTableTest, TheTextHasTheHelpOfEachKeyAndWhatIsMissingAsAComment) {
  Options options;
  options.name.clear();
  options.color = Color::kUnnamed;
  FlagTable flags = FlagsOf(options);
  flags.Get("color").ShownDefault("any");
  flags.Get("threads").in_config = false;
  EXPECT_EQ(ConfigSectionText("a", flags, /*with_help=*/true),
            "[a]\n"
            "\n# Its name. Required.\n#name =\n"
            "\n# Shout.\nloud = false\n"
            "\n# Folders.\nfolder = []\n"
            "\n# Where.\nlisten = \"here\"\n"
            "\n# Tokens.\ntokens = 7\n"
            "\n# Seconds.\nlease = 1.5\n"
            "\n# Color.\n#color =  # any\n");
  EXPECT_EQ(ConfigSectionText("a", flags, /*with_help=*/false),
            "[a]\nloud = false\nfolder = []\nlisten = \"here\"\ntokens = 7\nlease = 1.5\n");
}

TEST(FlagTableTest, AnErrorNamesFileLineKeyExpectedAndFound) {
  const auto refused = [](const std::string& line, const std::string& words) {
    Options options;
    EXPECT_THAT(Read("[a]\n" + line, options),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)))
        << line;
  };
  refused("thread = 1", "f:2: [a] thread: no such key; did you mean \"threads\"?");
  refused("elephants = 1", "f:2: [a] elephants: no such key; expected one of name, loud, folder");
  refused("threads = 65", "f:2: [a] threads: expected a whole number from 0 to 64, found \"65\"");
  refused("threads = 1.5", "expected a whole number from 0 to 64, found \"1.5\"");
  refused("threads = [1]", "f:2: [a] threads: expected one value, found a list");
  refused("tokens = 0", "expected a whole number of at least 1, found \"0\"");
  refused("tokens = 99999999999999999999", "found \"99999999999999999999\"");
  refused("lease = 0.4", "expected a number from 0.5 to 600, found \"0.4\"");
  refused("lease = nan", "found \"nan\"");
  refused("loud = 1", "expected true or false, found \"1\"");
  refused("color = \"green\"", "expected red or blue, found \"green\"");
}

TEST(FlagTableTest, SecondsWithoutABoundAreAboveZero) {
  absl::Duration patience;
  FlagTable flags;
  flags.AddSeconds("patience", &patience, kLeastSeconds, kMostSeconds, "");
  EXPECT_THAT(flags.Get("patience").set({"0.001"}), IsOk());
  EXPECT_EQ(patience, absl::Milliseconds(1));
  for (const char* text : {"0", "-1", "inf", "nan", "x", "1e300", "1e-10"}) {
    EXPECT_THAT(flags.Get("patience").set({text}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("above 0")));
  }
}

TEST(FlagTableTest, WhatAFileSetsIsNotRequiredAnyMore) {
  Options options;
  FlagTable flags = FlagsOf(options);
  ASSERT_OK_AND_ASSIGN(const auto sections, ParseConfig("[a]\nname = \"x\"", "f"));
  ASSERT_OK(ReadConfigSection(sections[0], "f", flags));
  EXPECT_FALSE(flags.Get("name").required);
}

TEST(FlagTableTest, TogetherOneFlagSetsTheFieldsOfAll) {
  Options first, second;
  FlagTable flags = Together({FlagsOf(first), FlagsOf(second)});
  ASSERT_OK(flags.Get("tokens").set({"9"}));
  EXPECT_EQ(first.tokens, 9);
  EXPECT_EQ(second.tokens, 9);
  EXPECT_THAT(flags.Get("tokens").get(), ElementsAre("9"));
}

TEST(FlagTableTest, HelpSaysWhatAValueMayBe) {
  Options options;
  FlagTable flags = FlagsOf(options);
  EXPECT_EQ(flags.Get("threads").type, "INT:INT in [0 - 64]");
  EXPECT_EQ(flags.Get("tokens").type, "INT:POSITIVE");
  EXPECT_EQ(flags.Get("lease").type, "FLOAT:FLOAT in [0.5 - 600]");
  EXPECT_EQ(flags.Get("color").type, "TEXT:{red,blue}");
}

}  // namespace
}  // namespace ccoe::services
