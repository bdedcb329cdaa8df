#include "services/common/parse_errors.h"

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "ccoe/v1/inference.grpc.pb.h"
#include "gtest/gtest.h"
#include "services/common/server_runner.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// A service that answers nothing: what is not refused before it is UNIMPLEMENTED.
class ParseErrorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options;
    options.services = {{&service_, std::string(v1::Inference::service_full_name())}};
    ASSERT_OK_AND_ASSIGN(server_, ServerRunner::Start(std::move(options)));
    ASSERT_OK_AND_ASSIGN(auto channel, ChannelFactory(nullptr).Connect(server_->addresses()[0]));
    stub_ = v1::Inference::NewStub(channel);
  }

  v1::Inference::Service service_;
  std::unique_ptr<ServerRunner> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
  grpc::ClientContext context_;
};

TEST_F(ParseErrorsTest, AStringThatIsNotUtf8IsRefusedWithWords) {
  v1::TokenizeRequest request;
  request.set_text("ab\xFF");
  v1::TokenizeResponse response;
  EXPECT_THAT(FromGrpc(stub_->Tokenize(&context_, request, &response)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("ccoe.v1.Inference/Tokenize"), HasSubstr("UTF-8"))));
}

TEST_F(ParseErrorsTest, SoIsTheRequestOfAStream) {
  v1::GenerateRequest request;
  request.add_stop("\xC3");
  auto reader = stub_->Generate(&context_, request);
  v1::GenerateResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_THAT(FromGrpc(reader->Finish()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("UTF-8")));
}

TEST_F(ParseErrorsTest, GoodRequestsReachTheService) {
  v1::TokenizeRequest request;
  request.set_text("ab");
  v1::TokenizeResponse response;
  EXPECT_THAT(FromGrpc(stub_->Tokenize(&context_, request, &response)),
              StatusIs(absl::StatusCode::kUnimplemented));
}

}  // namespace
}  // namespace ccoe::services
