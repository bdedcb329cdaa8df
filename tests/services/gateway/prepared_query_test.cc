// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/prepared_query.h"

#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ModelTextTest : public ::testing::Test {
 protected:
  // The golden tokenizer with this chat template.
  absl::StatusOr<std::unique_ptr<ModelText>> WithTemplate(const std::string& chat_template) {
    const std::string golden = testing::GoldenFolder("ccoe/backbone");
    for (const char* file : {"config.json", "tokenizer.json"}) {
      std::filesystem::copy_file(golden + "/" + file, folder_ / file,
                                 std::filesystem::copy_options::overwrite_existing);
    }
    if (!chat_template.empty()) std::ofstream(folder_ / "chat_template.jinja") << chat_template;
    return ModelText::Load(folder_.path());
  }

  static v1::Chat Say(const std::string& role, const std::string& content) {
    v1::Chat chat;
    chat.add_messages()->set_role(role);
    chat.mutable_messages(0)->set_content(content);
    return chat;
  }

  testing::TempFolder folder_;
};

TEST_F(ModelTextTest, AChatIsRenderedAndEncodedWithoutFurtherSpecialTokens) {
  ASSERT_OK_AND_ASSIGN(
      const auto model,
      WithTemplate("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"));
  ASSERT_OK_AND_ASSIGN(const auto chat, model->Encode(Say("user", "Hello")));
  ASSERT_OK_AND_ASSIGN(const auto text, model->Encode("[user]Hello", /*add_special=*/false));
  EXPECT_EQ(chat, text);
}

TEST_F(ModelTextTest, AModelWithoutAChatTemplateRefusesChats) {
  ASSERT_OK_AND_ASSIGN(const auto model, WithTemplate(""));
  EXPECT_THAT(model->Encode(Say("user", "Hello")).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no chat template")));
}

TEST_F(ModelTextTest, ABrokenChatTemplateRefusesChatsAndNothingElse) {
  ASSERT_OK_AND_ASSIGN(const auto model, WithTemplate("{% for m in %}"));
  EXPECT_FALSE(model->Encode(Say("user", "Hello")).ok());
  EXPECT_OK(model->Encode("Hello", true));
}

TEST_F(ModelTextTest, ATemplateThatRefusesAChatIsTheClientsError) {
  ASSERT_OK_AND_ASSIGN(const auto model, WithTemplate("{{ raise_exception('only users') }}"));
  EXPECT_THAT(model->Encode(Say("system", "x")).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("only users")));
}

TEST_F(ModelTextTest, NamesAMissingTokenizer) {
  EXPECT_THAT(ModelText::Load("/no/such/model").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/model")));
}

TEST_F(ModelTextTest, DecodesWithAndWithoutSpecialTokens) {
  ASSERT_OK_AND_ASSIGN(const auto model, ModelText::Load(testing::GoldenFolder("ccoe/backbone")));
  ASSERT_OK_AND_ASSIGN(const auto ids, model->Encode("Hello", /*add_special=*/true));
  v1::TokenIds list;
  list.mutable_ids()->Add(ids.begin(), ids.end());
  ASSERT_OK_AND_ASSIGN(const std::string plain, model->Decode(list, /*skip_special=*/true));
  EXPECT_EQ(plain, "Hello");
  ASSERT_OK_AND_ASSIGN(const std::string all, model->Decode(list, /*skip_special=*/false));
  EXPECT_NE(all, "Hello");
}

class PreparedQueryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(model_, ModelText::Load(testing::GoldenFolder("ccoe/backbone")));
    request_.set_text("Hello");
  }

  void ExpectRefused(const std::string& first, const std::string& second = "") {
    EXPECT_THAT(
        PrepareQuery(request_, *model_).status(),
        StatusIs(absl::StatusCode::kInvalidArgument, AllOf(StartsWith(first), HasSubstr(second))));
  }

  std::unique_ptr<ModelText> model_;
  v1::GenerateRequest request_;
};

TEST_F(PreparedQueryTest, TextIsTokenizedAndRouted) {
  const auto golden = testing::ReadGoldenPrompts("ccoe/backbone")[0];
  request_.set_text(golden.text);
  request_.set_expert("math@2");
  request_.add_stop("\n");
  ASSERT_OK_AND_ASSIGN(const PreparedQuery query, PrepareQuery(request_, *model_));
  EXPECT_THAT(golden.ids, ::testing::ElementsAreArray(query.backbone.prompt().begin(),
                                                      query.backbone.prompt().end()));
  EXPECT_EQ(query.route.text(), golden.text);
  EXPECT_EQ(query.route.expert(), "math@2");
  EXPECT_EQ(query.route.prompt_tokens(), query.backbone.prompt_size());
  EXPECT_EQ(query.stops.size(), 1u);
}

TEST_F(PreparedQueryTest, ControlOfGatesIsPassedOn) {
  ASSERT_OK_AND_ASSIGN(const PreparedQuery without, PrepareQuery(request_, *model_));
  EXPECT_FALSE(without.backbone.has_moe());
  request_.mutable_moe()->add_masked_experts(5);
  ASSERT_OK_AND_ASSIGN(const PreparedQuery with, PrepareQuery(request_, *model_));
  EXPECT_EQ(with.backbone.moe().masked_experts(0), 5);
}

TEST_F(PreparedQueryTest, EachQueryWithoutAnIdGetsItsOwn) {
  ASSERT_OK_AND_ASSIGN(const PreparedQuery first, PrepareQuery(request_, *model_));
  ASSERT_OK_AND_ASSIGN(const PreparedQuery second, PrepareQuery(request_, *model_));
  EXPECT_FALSE(first.route.request_id().empty());
  EXPECT_NE(first.route.request_id(), second.route.request_id());
  EXPECT_EQ(first.route.request_id(), first.backbone.request_id());
}

TEST_F(PreparedQueryTest, TokenIdsAreTakenAsTheyAreAndNotRoutedByText) {
  for (int32_t id : {1, 2, 3}) request_.mutable_token_ids()->add_ids(id);
  ASSERT_OK_AND_ASSIGN(const PreparedQuery query, PrepareQuery(request_, *model_));
  EXPECT_EQ(query.backbone.prompt_size(), 3);
  EXPECT_EQ(query.route.text(), "");
}

TEST_F(PreparedQueryTest, RefusesWhatIsNoInput) {
  request_.clear_input();
  ExpectRefused("input", "found none");
  request_.set_text("");
  request_.mutable_token_ids();
  ExpectRefused("prompt", "found 0");
  request_.mutable_token_ids()->add_ids(-1);
  ExpectRefused("token_ids[0]", "found -1");
  request_.mutable_token_ids()->set_ids(0, 1 << 20);
  ExpectRefused("token_ids[0]", "expected 0 to");
}

TEST_F(PreparedQueryTest, RefusesInvalidUtf8) {
  request_.set_text("ab\xFF");
  ExpectRefused("text", "UTF-8");
}

TEST_F(PreparedQueryTest, RefusesAPromptLongerThanTheContext) {
  for (int64_t i = 0; i < model_->spec().max_positions; ++i) {
    request_.mutable_token_ids()->add_ids(1);
  }
  ExpectRefused("prompt", "context");
  request_.mutable_token_ids()->mutable_ids()->RemoveLast();
  EXPECT_OK(PrepareQuery(request_, *model_));
}

TEST_F(PreparedQueryTest, RefusesBadChats) {
  request_.mutable_chat();
  ExpectRefused("chat", "found 0");
  request_.mutable_chat()->add_messages()->set_role("wizard");
  ExpectRefused("chat.messages[0].role", "wizard");
}

TEST_F(PreparedQueryTest, RefusesSamplingOutOfRange) {
  request_.mutable_sampling()->set_temperature(std::numeric_limits<float>::quiet_NaN());
  ExpectRefused("sampling: temperature");
  request_.mutable_sampling()->set_temperature(1);
  request_.mutable_sampling()->set_max_tokens(0);
  ExpectRefused("sampling: max_tokens");
}

TEST_F(PreparedQueryTest, RefusesTooManyOrTooLongStops) {
  for (int i = 0; i < 17; ++i) request_.add_stop("x");
  ExpectRefused("stop", "found 17");
  request_.clear_stop();
  request_.add_stop("");
  ExpectRefused("stop[0]", "found 0");
  request_.set_stop(0, std::string(257, 'x'));
  ExpectRefused("stop[0]", "found 257");
}

TEST_F(PreparedQueryTest, RefusesBadNames) {
  request_.set_expert("no such name!");
  ExpectRefused("expert \"no such name!\"");
  request_.set_expert("math@0");
  ExpectRefused("expert \"math@0\"");
  request_.set_expert("base");
  EXPECT_OK(PrepareQuery(request_, *model_));
  request_.set_tenant(std::string(129, 't'));
  ExpectRefused("tenant", "found 129");
  request_.clear_tenant();
  request_.set_request_id(std::string(129, 'r'));
  ExpectRefused("request_id", "found 129");
}

TEST(RoutedPartTest, CutsLongTextsAtTheEndOfACharacter) {
  EXPECT_EQ(RoutedPart("short"), "short");
  const std::string text = std::string((64 << 10) - 1, 'x') + "東";
  EXPECT_EQ(RoutedPart(text), std::string((64 << 10) - 1, 'x'));
}

}  // namespace
}  // namespace ccoe::services
