// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/runtime/tokenizer/golden_cases.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::chat_template {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

Chat ChatOf(const nlohmann::json& json) {
  Chat chat;
  for (const auto& message : json["messages"])
    chat.messages.push_back({message["role"], message["content"]});
  chat.add_generation_prompt = json["add_generation_prompt"];
  return chat;
}

TEST(ChatTemplateTest, RendersTheGoldenChatsToTheirTextAndIds) {
  for (const std::string style : {"llama3", "qwen2"}) {
    const auto tokenizer = tokenizer::LoadGolden("models/" + style);
    ASSERT_NE(tokenizer, nullptr);
    ASSERT_OK_AND_ASSIGN(const auto chat_template,
                         ChatTemplate::Create(tokenizer->chat_template()));
    const nlohmann::json cases = tokenizer::GoldenJson("chat/" + style + ".json");
    ASSERT_GE(cases.size(), 2u);
    for (const auto& entry : cases) {
      Chat chat = ChatOf(entry);
      chat.bos_token = tokenizer->config().bos_token;
      chat.eos_token = tokenizer->config().eos_token;
      ASSERT_OK_AND_ASSIGN(const std::string text, chat_template->Render(chat));
      EXPECT_EQ(text, entry["rendered"].get<std::string>());
      ASSERT_OK_AND_ASSIGN(const tokenizer::Ids ids,
                           tokenizer->Encode(text, /*add_special=*/false));
      EXPECT_EQ(ids, entry["ids"].get<tokenizer::Ids>());
    }
  }
}

TEST(ChatTemplateTest, RendersWhatJinjaRenders) {
  const nlohmann::json cases = tokenizer::GoldenJson("chat/templates.json");
  ASSERT_GE(cases.size(), 200u);
  for (const auto& entry : cases) {
    const std::string source = entry["template"];
    SCOPED_TRACE(entry["name"].get<std::string>() + ": " + source);
    const auto chat_template = ChatTemplate::Create(source);
    ASSERT_TRUE(chat_template.ok()) << chat_template.status();
    Chat chat = ChatOf(entry);
    chat.bos_token = "<s>";
    chat.eos_token = "</s>";
    const absl::StatusOr<std::string> text = (*chat_template)->Render(chat);
    EXPECT_EQ(text.ok(), entry.contains("rendered")) << text.status();
    EXPECT_EQ(text.value_or(""), entry.value("rendered", ""));
  }
}

TEST(ChatTemplateTest, RefusesChatsThatAreNotUtf8) {
  ASSERT_OK_AND_ASSIGN(const auto chat_template, ChatTemplate::Create("{{ messages[0].content }}"));
  Chat chat;
  chat.messages = {{"user", "a\xFF"}};
  EXPECT_THAT(chat_template->Render(chat),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("message 0, content")));
  EXPECT_THAT(ChatTemplate::Create("\xFF"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ChatTemplateTest, PassesOnWhyATemplateRefuses) {
  ASSERT_OK_AND_ASSIGN(const auto chat_template,
                       ChatTemplate::Create("\n{{ raise_exception('no!') }}"));
  EXPECT_THAT(chat_template->Render({}), StatusIs(absl::StatusCode::kInvalidArgument,
                                                  HasSubstr("line 2: the template refuses: no!")));
}

}  // namespace
}  // namespace ccoe::chat_template
