#include "services/common/model_identity.h"

#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

TEST(ModelIdentityTest, IsTheSameForEqualModelsAndAnotherForOthers) {
  model::ModelSpec spec;
  spec.family = "llama";
  spec.hidden_size = 64;
  const std::string identity = ModelIdentity(spec);
  EXPECT_EQ(identity.size(), 64u);
  EXPECT_EQ(ModelIdentity(spec), identity);
  spec.hidden_size = 65;
  EXPECT_NE(ModelIdentity(spec), identity);
}

}  // namespace
}  // namespace ccoe::services
