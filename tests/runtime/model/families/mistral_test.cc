#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

nlohmann::json Minimal() {
  return {{"vocab_size", 100},
          {"hidden_size", 32},
          {"num_attention_heads", 4},
          {"intermediate_size", 64},
          {"num_hidden_layers", 3}};
}

TEST(MistralTest, TheWindowIsANumberOrNullOrTheDefault) {
  nlohmann::json object = Minimal();
  EXPECT_EQ(ParseMistral(ConfigReader(object))->layers[0].attention.sliding_window, 4096);
  object["sliding_window"] = nullptr;
  EXPECT_EQ(ParseMistral(ConfigReader(object))->layers[0].attention.sliding_window, 0);
  object["sliding_window"] = 12;
  EXPECT_EQ(ParseMistral(ConfigReader(object))->layers[2].attention.sliding_window, 12);
  object["sliding_window"] = 0;
  EXPECT_THAT(ParseMistral(ConfigReader(object)),
              testing::StatusIs(absl::StatusCode::kInvalidArgument,
                                ::testing::HasSubstr("sliding_window")));
}

}  // namespace
}  // namespace ccoe::model
