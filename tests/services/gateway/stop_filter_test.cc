#include "services/gateway/stop_filter.h"

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

struct Outcome {
  std::string text;
  std::string stop;
};

Outcome Filtered(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopFilter filter(stops);
  Outcome outcome;
  for (const std::string& piece : pieces) outcome.text += filter.Append(piece);
  outcome.text += filter.Finish();
  outcome.stop = filter.found().value_or("");
  return outcome;
}

std::vector<std::string> Characters(const std::string& text) {
  std::vector<std::string> pieces;
  for (char c : text) pieces.emplace_back(1, c);
  return pieces;
}

TEST(StopFilterTest, PassesEverythingWithoutStopStrings) {
  EXPECT_EQ(Filtered({}, {"ab", "", "c"}).text, "abc");
  EXPECT_EQ(Filtered({""}, {"ab", "c"}).text, "abc");
}

TEST(StopFilterTest, HoldsBackWhatMayBeginAStopString) {
  StopFilter filter({"\n\nQ:"});
  EXPECT_EQ(filter.Append("answer\n"), "answer");
  EXPECT_EQ(filter.Append("\n"), "");
  EXPECT_EQ(filter.Append("Q"), "");
  EXPECT_EQ(filter.Append("uick"), "\n\nQuick");
  EXPECT_FALSE(filter.found().has_value());
}

TEST(StopFilterTest, SaysNothingAfterAStopString) {
  StopFilter filter({"END"});
  EXPECT_EQ(filter.Append("one END two"), "one ");
  EXPECT_EQ(filter.found(), "END");
  EXPECT_EQ(filter.Append("three"), "");
  EXPECT_EQ(filter.Finish(), "");
}

TEST(StopFilterTest, GivesBackABeginningThatWasNone) {
  EXPECT_EQ(Filtered({"END"}, {"one EN"}).text, "one EN");
}

TEST(StopFilterTest, TheStringThatIsCompleteFirstWinsAndTheLongestOfThose) {
  EXPECT_EQ(Filtered({"bcd", "c"}, {"abcd"}).text, "ab");
  EXPECT_EQ(Filtered({"bcd", "c"}, {"abcd"}).stop, "c");
  EXPECT_EQ(Filtered({"c", "bc"}, {"abcd"}).text, "a");
  EXPECT_EQ(Filtered({"c", "bc"}, {"abcd"}).stop, "bc");
}

// Overlapping beginnings, a stop inside a stop, repeats, multi-byte characters.
TEST(StopFilterTest, TheResultDoesNotDependOnHowTheTextIsCut) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"aaaaaab", {"aaab"}},
      {"ababababc", {"ababc", "bac"}},
      {"one\n\nQ: two\n\nQ: three", {"\n\nQ:", "\nQ:"}},
      {"xyzzyxyz", {"zyx", "yzzyxyz", "q"}},
      {"Größe naïve ≤ ½π", {"ïv", "≤ ½", "π"}},
      {"no stop here at all", {"at all!", "here an"}},
      {"abcabcabd", {"abcabd", "cabc"}},
  };
  for (const auto& [text, stops] : cases) {
    const Outcome expected = Filtered(stops, Characters(text));
    for (size_t first = 0; first <= text.size(); ++first) {
      for (size_t second = first; second <= text.size(); ++second) {
        const Outcome got = Filtered(
            stops,
            {text.substr(0, first), text.substr(first, second - first), text.substr(second)});
        EXPECT_EQ(got.text, expected.text) << text << " cut at " << first << ", " << second;
        EXPECT_EQ(got.stop, expected.stop) << text << " cut at " << first << ", " << second;
      }
    }
  }
}

TEST(StopFilterTest, FindsWhatASearchOfTheWholeTextFinds) {
  std::mt19937 random(11);
  auto word = [&random](size_t size) {
    std::string text;
    for (size_t i = 0; i < size; ++i) text += static_cast<char>('a' + random() % 2);
    return text;
  };
  for (int round = 0; round < 500; ++round) {
    const std::string text = word(24);
    const std::string stop = word(1 + random() % 5);
    const size_t found = text.find(stop);
    const Outcome got = Filtered({stop}, Characters(text));
    EXPECT_EQ(got.text, text.substr(0, found));
    EXPECT_EQ(got.stop, found == std::string::npos ? "" : stop);
  }
}

}  // namespace
}  // namespace ccoe::services
