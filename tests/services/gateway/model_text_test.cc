#include "services/gateway/model_text.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

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

}  // namespace
}  // namespace ccoe::services
