#include "runtime/model/ffn.h"

#include <functional>
#include <vector>

#include "gmock/gmock.h"
#include "tests/testing/expect_close.h"
#include "tests/testing/model_run.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

const std::vector<int32_t> kPrompt = {3, 1, 4, 1, 5, 9, 2, 6};

void ExpectMatchesReference(const std::function<void(FfnSpec&)>& change) {
  ModelSpec spec = testing::TinySpec();
  for (LayerSpec& layer : spec.layers) change(layer.ffn);
  const testing::TempFolder folder;
  ASSERT_OK(testing::WriteTinyWeights(spec, folder.path(), 11));
  ASSERT_OK_AND_ASSIGN(auto weights, Weights::Open(folder.path()));
  ASSERT_OK_AND_ASSIGN(const auto expected, testing::ReferenceLogits(spec, *weights, kPrompt));
  ASSERT_OK_AND_ASSIGN(auto run,
                       testing::ModelRun::Create(spec, weights, testing::ModelRunOptions{}));
  ASSERT_OK_AND_ASSIGN(const auto out, run->Feed(kPrompt));
  testing::ExpectClose(out.logits, expected, 1e-4, "logits");
}

TEST(FfnTest, EveryActivationMatchesTheReference) {
  for (const auto activation : {kernels::Activation::kSilu, kernels::Activation::kGeluTanh,
                                kernels::Activation::kGeluErf}) {
    ExpectMatchesReference([&](FfnSpec& ffn) { ffn.activation = activation; });
  }
}

TEST(FfnTest, BiasesMatchTheReference) {
  ExpectMatchesReference([](FfnSpec& ffn) { ffn.bias = true; });
}

TEST(FfnTest, BindNamesWhatIsMissingOrOfAnotherShape) {
  const testing::TempFolder folder;
  ModelSpec spec = testing::TinySpec();
  ASSERT_OK(testing::WriteTinyWeights(spec, folder.path(), 1));
  ASSERT_OK_AND_ASSIGN(auto weights, Weights::Open(folder.path()));
  spec.layers.push_back(spec.layers[0]);
  FfnSpec& ffn = spec.layers[0].ffn;
  EXPECT_OK(BindFfn(spec, 0, *weights));
  EXPECT_THAT(BindFfn(spec, 2, *weights),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("model.layers.2.post_attention_layernorm.weight")));
  ffn.intermediate = 41;
  EXPECT_THAT(BindFfn(spec, 0, *weights),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("model.layers.0.mlp.gate_proj.weight")));
  ffn = testing::TinySpec().layers[0].ffn;
  ffn.bias = true;
  EXPECT_THAT(BindFfn(spec, 0, *weights), StatusIs(absl::StatusCode::kNotFound,
                                                   HasSubstr("model.layers.0.mlp.gate_proj.bias")));
}

}  // namespace
}  // namespace ccoe::model
