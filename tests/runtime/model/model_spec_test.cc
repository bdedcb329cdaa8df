#include "runtime/model/model_spec.h"

#include <cmath>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TinySpec;

void ExpectInvalid(const std::function<void(ModelSpec&)>& change, const std::string& message) {
  ModelSpec spec = TinySpec();
  change(spec);
  EXPECT_THAT(Validate(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
}

TEST(ModelSpecTest, AnOrdinarySpecIsValid) { EXPECT_OK(Validate(TinySpec())); }

TEST(ModelSpecTest, AbsurdSizesAreNamed) {
  ExpectInvalid([](ModelSpec& s) { s.vocab_size = 0; },
                "vocab_size: expected 1 to 16777216, found 0");
  ExpectInvalid([](ModelSpec& s) { s.hidden_size = INT64_MAX; }, "hidden_size");
  ExpectInvalid([](ModelSpec& s) { s.max_positions = -1; }, "max_positions");
  ExpectInvalid([](ModelSpec& s) { s.layers.clear(); }, "layers: expected 1 to 4096, found 0");
  ExpectInvalid([](ModelSpec& s) { s.norm_eps = NAN; }, "norm_eps");
  ExpectInvalid([](ModelSpec& s) { s.rope.theta = 0.0; }, "rope theta");
  ExpectInvalid([](ModelSpec& s) { s.layers[1].ffn.intermediate = 0; },
                "layer 1: intermediate size");
  ExpectInvalid([](ModelSpec& s) { s.layers[0].attention.scale = INFINITY; },
                "layer 0: attention scale");
}

TEST(ModelSpecTest, ContradictionsAreNamed) {
  ExpectInvalid([](ModelSpec& s) { s.layers[1].attention.kv_heads = 3; },
                "a multiple of the 3 key/value heads, found 4");
  ExpectInvalid([](ModelSpec& s) { s.layers[0].attention.kv_heads = 8; },
                "key/value heads: expected 1 to 4, found 8");
  ExpectInvalid([](ModelSpec& s) { s.layers[0].attention.head_dim = 7; },
                "head_dim: expected an even number, found 7");
  ExpectInvalid([](ModelSpec& s) { s.layers[1].attention.head_dim = 10; },
                "layer 1: head_dim: expected 8 to 8, found 10");
  ExpectInvalid(
      [](ModelSpec& s) {
        s.eos_token_ids = {1, 50};
      },
      "eos_token_id: expected 0 to 49, found 50");
  ExpectInvalid([](ModelSpec& s) { s.bos_token_id = -2; }, "bos_token_id");
  ExpectInvalid(
      [](ModelSpec& s) {
        s.rope.scaling = RopeScaling::kLlama3;
        s.rope.original_max_positions = 64;
        s.rope.high_freq_factor = s.rope.low_freq_factor;
      },
      "high_freq_factor");
}

TEST(ModelSpecTest, MathsTextTellsApartWhatComputesDifferently) {
  const std::vector<std::function<void(ModelSpec&)>> changes = {
      [](ModelSpec&) {},
      [](ModelSpec& s) { s.norm_eps = 1e-6f; },
      [](ModelSpec& s) { s.tied_head = true; },
      [](ModelSpec& s) { s.rope.theta = 10001.0; },
      [](ModelSpec& s) { s.rope.scaling = RopeScaling::kLinear; },
      [](ModelSpec& s) { s.layers[1].attention.sliding_window = 3; },
      [](ModelSpec& s) { s.layers[1].attention.qk_norm = QkNorm::kPerHead; },
      [](ModelSpec& s) { s.layers[0].ffn.activation = kernels::Activation::kGeluErf; },
      [](ModelSpec& s) { s.layers.pop_back(); },
      [](ModelSpec& s) { s.logit_soft_cap = 30.0f; },
  };
  std::set<std::string> texts;
  for (const auto& change : changes) {
    ModelSpec spec = TinySpec();
    change(spec);
    texts.insert(MathsText(spec));
  }
  EXPECT_EQ(texts.size(), changes.size());
}

TEST(ModelSpecTest, MathsTextLeavesOutNamesAndSpecialTokens) {
  ModelSpec spec = TinySpec();
  spec.family = "mistral";
  spec.eos_token_ids = {7};
  spec.bos_token_id = 3;
  spec.max_positions = 9;
  EXPECT_EQ(MathsText(spec), MathsText(TinySpec()));
}

TEST(ModelSpecTest, ARangeContainsItsParts) {
  EXPECT_TRUE((LayerRange{0, 4}).Contains({1, 4}));
  EXPECT_FALSE((LayerRange{1, 4}).Contains({0, 2}));
  EXPECT_FALSE((LayerRange{0, 4}).Contains({3, 5}));
  EXPECT_TRUE((LayerRange{2, 2}).empty());
}

}  // namespace
}  // namespace ccoe::model
