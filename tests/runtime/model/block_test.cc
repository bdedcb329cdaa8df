// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/block.h"

#include <cmath>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

TEST(LayerTensorsTest, LooksUpByTheNamesOfTheLayersParts) {
  ModelSpec spec = testing::TinySpec();
  spec.layers[1].attention.qkv_bias = true;
  const testing::TempFolder folder;
  ASSERT_OK(testing::WriteTinyWeights(spec, folder.path(), 1));
  ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(folder.path()));
  const LayerTensors tensors(spec, 1, *weights);
  EXPECT_EQ(tensors.prefix(), "model.layers.1.");
  EXPECT_OK(tensors.Matrix(spec.names.q, 32, 24));
  EXPECT_OK(tensors.Bias(spec.names.q, 32));
  EXPECT_OK(tensors.Norm(spec.names.ffn_norm, 24));
  EXPECT_THAT(tensors.Matrix(spec.names.q, 32, 25),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("model.layers.1.self_attn.q_proj.weight"),
                             HasSubstr("[32, 25]"), HasSubstr("[32, 24]"))));
  EXPECT_THAT(
      tensors.Bias(spec.names.gate, 40),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("model.layers.1.mlp.gate_proj.bias")));
  spec.names.norm_suffix = ".scale";
  EXPECT_THAT(LayerTensors(spec, 1, *weights).Norm(spec.names.ffn_norm, 24),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("model.layers.1.post_attention_layernorm.scale")));
}

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
