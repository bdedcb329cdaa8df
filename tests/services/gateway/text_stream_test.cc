#include "services/gateway/text_stream.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

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
