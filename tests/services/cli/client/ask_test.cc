// SPDX-License-Identifier: Apache-2.0
// `ccoe chat` against a gateway without a model; tests/cluster/commands_test.py runs ask and route.
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/commands.h"
#include "tests/testing/command_line.h"
#include "tests/testing/fake_inference.h"

namespace ccoe::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ChatTest : public ::testing::Test {
 protected:
  // Standard input is no terminal.
  testing::CommandOutput Chat(const std::string& typed) {
    std::istringstream input(typed);
    std::streambuf* const before = std::cin.rdbuf(input.rdbuf());
    const auto output = testing::RunCcoe(
        {"chat", "--server", server_->addresses()[0], "--max-tokens", "2"}, {RegisterChat});
    std::cin.rdbuf(before);
    std::cin.clear();
    return output;
  }

  testing::FakeInference fake_;
  std::unique_ptr<services::ServerRunner> server_ = testing::Serve(&fake_);
};

TEST_F(ChatTest, KeepsTheConversationUntilItIsToForget) {
  const auto output = Chat("one\n/expert math\ntwo\n/new\nthree\n/quit\nfour\n");
  EXPECT_EQ(output.exit_code, kExitOk) << output.err;
  EXPECT_THAT(output.out, HasSubstr("[math@1"));
  std::vector<int> lengths;
  for (const auto& request : fake_.requests()) lengths.push_back(request.chat().messages_size());
  EXPECT_EQ(lengths, (std::vector<int>{1, 3, 1}));
}

TEST_F(ChatTest, AnErrorGoesToStderrAndIsTheExitCode) {
  fake_.before_answer = [](int number, grpc::ServerContext*) {
    return number == 1 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "the expert is gone")
                       : grpc::Status::OK;
  };
  const auto output = Chat("one\ntwo\nthree\n");
  EXPECT_EQ(output.exit_code, kExitUnavailable);
  EXPECT_THAT(output.err, HasSubstr("ccoe chat: server"));
  EXPECT_THAT(output.err, HasSubstr("the expert is gone"));
  EXPECT_THAT(output.out, Not(HasSubstr("the expert is gone")));
  EXPECT_EQ(fake_.requests().size(), 2u);  // who pipes questions in gets no answer to another one
}

}  // namespace
}  // namespace ccoe::cli
