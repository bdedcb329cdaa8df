#include "runtime/model/families/families.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

TEST(FamiliesTest, EveryArchitectureStandsOnceAndParsesAnOrdinaryConfig) {
  nlohmann::json object = MinimalLatent();
  object.update(MinimalGrok("n_routed_experts"));
  std::set<std::string> architectures;
  for (const Family& family : Families()) {
    EXPECT_TRUE(architectures.insert(family.architecture).second);
    ASSERT_OK_AND_ASSIGN(const ModelSpec spec, family.parse(ConfigReader(object)));
    EXPECT_EQ(spec.family, family.model_type);
    EXPECT_OK(Validate(spec));
  }
  EXPECT_EQ(architectures.size(), 13u);
}

}  // namespace
}  // namespace ccoe::model
