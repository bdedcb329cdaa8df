// SPDX-License-Identifier: Apache-2.0
#include "services/cli/client/client.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_inference.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Request Text(const std::string& text) {
  Request prompt;
  prompt.is_text = true;
  prompt.text = text;
  return prompt;
}

TEST(SetPromptTest, ATextIsAUsersMessageOrStandsAsItIs) {
  v1::GenerateRequest request;
  SetPrompt(Text("hi"), /*raw=*/false, request);
  ASSERT_EQ(request.chat().messages_size(), 1);
  EXPECT_EQ(request.chat().messages(0).role(), "user");
  EXPECT_EQ(request.chat().messages(0).content(), "hi");
  SetPrompt(Text("hi"), /*raw=*/true, request);
  EXPECT_EQ(request.text(), "hi");
}

TEST(SetPromptTest, NothingIsLeftOfThePromptBefore) {
  v1::GenerateRequest request;
  SetPrompt(Text("one"), /*raw=*/false, request);
  SetPrompt(Text("two"), /*raw=*/false, request);
  ASSERT_EQ(request.chat().messages_size(), 1);
  EXPECT_EQ(request.chat().messages(0).content(), "two");
  Request ids;
  ids.token_ids = {3, 4};
  SetPrompt(ids, /*raw=*/false, request);
  SetPrompt(ids, /*raw=*/false, request);
  EXPECT_THAT(request.token_ids().ids(), ElementsAre(3, 4));
  EXPECT_FALSE(request.has_chat());
}

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = testing::Serve(&fake_);
    ClientFlags flags;
    flags.server = server_->addresses()[0];
    flags.timeout_seconds = 20;
    ASSERT_OK_AND_ASSIGN(client_, Client::Create(flags));
  }

  testing::FakeInference fake_;
  std::unique_ptr<services::ServerRunner> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, GathersAnAnswer) {
  v1::GenerateRequest request;
  request.set_expert("math");
  request.mutable_token_ids()->add_ids(40);
  request.mutable_sampling()->set_max_tokens(3);
  std::string expert;
  ASSERT_OK_AND_ASSIGN(const StreamedAnswer answer,
                       client_->Generate(request, [&expert](const v1::Started& started) {
                         expert = DecisionName(started.decision());
                       }));
  EXPECT_EQ(expert, "math@1");
  EXPECT_THAT(answer.token_ids, ElementsAre(40, 41, 42));
  EXPECT_GT(answer.time_to_first_token, absl::ZeroDuration());
  EXPECT_LE(answer.time_to_first_token, answer.total);
}

TEST_F(ClientTest, HandsOnWhatTheServerSays) {
  ASSERT_OK_AND_ASSIGN(const v1::ListExpertsResponse experts, client_->ListExperts());
  EXPECT_EQ(experts.experts_size(), 2);
  v1::TokenizeRequest ids;
  ids.mutable_token_ids()->add_ids(testing::FakeInference::kVocabulary);
  EXPECT_THAT(client_->Tokenize(ids),
              testing::StatusIs(absl::StatusCode::kInvalidArgument, "no such id"));
}

TEST_F(ClientTest, SaysWhereNobodyAnswers) {
  const std::string address = server_->addresses()[0];
  server_.reset();
  EXPECT_THAT(client_->ListExperts(),
              testing::StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
}

}  // namespace

}  // namespace ccoe::cli
