#include "runtime/model/residual.h"

#include <cmath>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"

namespace ccoe::model {
namespace {

class ResidualTest : public ::testing::Test {
 protected:
  // Two rows of hidden states after adding x * weight^T + bias.
  std::vector<float> Add(bool post_norm) {
    std::vector<float> hidden = {1, 2, 3, 4}, scratch(4);
    BlockOutput output;
    output.weight = kernels::F32Matrix(weight_.data(), 2, 1);
    output.bias = kernels::F32Matrix(bias_.data(), 1, 2);
    if (post_norm) output.post_norm = kernels::F32Matrix(norm_.data(), 1, 2);
    AddBlockOutput(output, kernels::F32Matrix(x_.data(), 2, 1),
                   kernels::F32Matrix(scratch.data(), 2, 2), *ops_,
                   kernels::F32Matrix(hidden.data(), 2, 2));
    return hidden;
  }

  const std::vector<float> weight_ = {10, 20}, bias_ = {0, 5}, norm_ = {1, 2}, x_ = {1, -1};
  ThreadTeam team_{1};
  std::unique_ptr<kernels::Ops> ops_ = kernels::MakeCpuOps(&team_);
};

TEST_F(ResidualTest, WithoutAPostNormTheProductIsAdded) {
  EXPECT_EQ(Add(false), (std::vector<float>{11, 27, -7, -11}));
}

TEST_F(ResidualTest, ThePostNormIsOverTheProductAlone) {
  const std::vector<float> found = Add(true);
  const auto root_mean_square = [](float a, float b) { return std::sqrt((a * a + b * b) / 2.0f); };
  EXPECT_NEAR(found[0], 1.0f + 10.0f / root_mean_square(10, 25), 1e-4f);
  EXPECT_NEAR(found[1], 2.0f + 2.0f * 25.0f / root_mean_square(10, 25), 1e-4f);
  EXPECT_NEAR(found[3], 4.0f - 2.0f * 15.0f / root_mean_square(10, 15), 1e-4f);
}

}  // namespace
}  // namespace ccoe::model
