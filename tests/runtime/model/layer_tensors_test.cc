#include "runtime/model/layer_tensors.h"

#include "gmock/gmock.h"
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

}  // namespace
}  // namespace ccoe::model
