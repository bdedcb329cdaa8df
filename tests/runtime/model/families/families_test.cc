#include "runtime/model/families/families.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

TEST(FamiliesTest, EveryArchitectureStandsOnceAndParsesAnOrdinaryConfig) {
  const nlohmann::json object = {{"vocab_size", 100},
                                 {"hidden_size", 32},
                                 {"num_attention_heads", 4},
                                 {"intermediate_size", 64},
                                 {"num_hidden_layers", 3}};
  std::set<std::string> architectures;
  for (const Family& family : Families()) {
    EXPECT_TRUE(architectures.insert(family.architecture).second);
    ASSERT_OK_AND_ASSIGN(const ModelSpec spec, family.parse(ConfigReader(object)));
    EXPECT_EQ(spec.family, family.model_type);
    EXPECT_OK(Validate(spec));
  }
  EXPECT_EQ(architectures.size(), 4u);
}

}  // namespace
}  // namespace ccoe::model
