// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/text_stream.h"

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

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

class TextStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(tokenizer_,
                         tokenizer::Tokenizer::Load(testing::GoldenFolder("ccoe/backbone")));
  }

  std::vector<int32_t> Ids(const std::string& text) {
    auto ids = tokenizer_->Encode(text, /*add_special=*/false);
    EXPECT_OK(ids);
    return ids.ok() ? *ids : std::vector<int32_t>();
  }

  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
};

TEST_F(TextStreamTest, GivesTheWholeTextInWholeCharacters) {
  const std::string text = "Größe naïve — 東京、Привет! 👩‍💻 x² ≤ ½π";
  TextStream stream(*tokenizer_, {});
  std::string joined;
  for (int32_t id : Ids(text)) {
    const std::string piece = stream.Append(id);
    EXPECT_EQ(tokenizer_->Encode(piece, false).status(), absl::OkStatus());  // it takes UTF-8 only
    joined += piece;
  }
  EXPECT_EQ(joined + stream.Finish(), text);
  EXPECT_FALSE(stream.stop().has_value());
}

TEST_F(TextStreamTest, EndsAtAStopStringThatSpansTokens) {
  TextStream stream(*tokenizer_, {"naïve — 東"});
  std::string joined;
  for (int32_t id : Ids("Größe naïve — 東京")) joined += stream.Append(id);
  EXPECT_EQ(joined + stream.Finish(), "Größe ");
  EXPECT_EQ(stream.stop(), "naïve — 東");
}

TEST_F(TextStreamTest, LeavesSpecialTokensOut) {
  TextStream stream(*tokenizer_, {});
  ASSERT_TRUE(tokenizer_->bos_id().has_value());
  EXPECT_EQ(stream.Append(*tokenizer_->bos_id()), "");
  EXPECT_EQ(stream.Finish(), "");
}

TEST_F(TextStreamTest, AnIdWithoutATokenHasNoText) {
  TextStream stream(*tokenizer_, {});
  EXPECT_EQ(stream.Append(1 << 30), "");
  EXPECT_EQ(stream.Append(-1), "");
  std::string joined;
  for (int32_t id : Ids("after")) joined += stream.Append(id);
  EXPECT_EQ(joined + stream.Finish(), "after");
}

TEST_F(TextStreamTest, ACharacterThatIsNeverCompletedBecomesAReplacement) {
  TextStream stream(*tokenizer_, {});
  const std::vector<int32_t> ids = Ids("東");
  ASSERT_GT(ids.size(), 1u);
  EXPECT_EQ(stream.Append(ids[0]), "");
  EXPECT_EQ(stream.Finish(), "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace ccoe::services
