// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/ffn.h"

#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/safetensors.h"
#include "tests/testing/expect_close.h"
#include "tests/testing/model_run.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
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

constexpr char kLayer[] = "model.layers.1.";

class MoeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(testing::WriteTinyWeights(spec_, folder_.path(), 3));
    ASSERT_OK_AND_ASSIGN(weights_, Weights::Open(folder_.path()));
  }
  MoeSpec& moe() { return spec_.layers[1].ffn.moe; }

  // The weights after `change` of the map from names to tensors.
  absl::StatusOr<std::shared_ptr<const Weights>> Changed(
      const std::function<void(std::map<std::string, TensorView>&)>& change) {
    std::map<std::string, TensorView> tensors;
    for (const std::string& name : weights_->Names()) {
      CCOE_ASSIGN_OR_RETURN(tensors[name], weights_->Raw(name));
    }
    change(tensors);
    CCOE_RETURN_IF_ERROR(WriteSafetensors(changed_ / "model.safetensors", tensors));
    return Weights::Open(changed_.path());
  }

  ModelSpec spec_ = testing::TinyMoeSpec();
  testing::TempFolder folder_, changed_;
  std::shared_ptr<const Weights> weights_;
  ThreadTeam team_{2};
  std::unique_ptr<kernels::Ops> ops_ = kernels::MakeCpuOps(&team_);
  MoeScratch scratch_{&kernels::CpuDevice()};
};

TEST_F(MoeTest, BindsWhatTheSpecAsksFor) {
  ASSERT_OK_AND_ASSIGN(const MoeWeights bound, BindMoe(spec_, 1, *weights_));
  EXPECT_EQ(bound.router.rows, 6);
  EXPECT_EQ(bound.shared.gate.rows, 20);
  EXPECT_EQ(bound.shared_gate.rows, 1);
  EXPECT_TRUE(bound.post_norm.empty());
  EXPECT_TRUE(bound.correction_bias.empty());
  ASSERT_OK_AND_ASSIGN(const FfnExpertWeights expert, BindFfnExpert(spec_, 1, 5, *weights_));
  EXPECT_EQ(expert.gate.rows, 16);
  EXPECT_EQ(expert.down.cols, 16);
}

TEST_F(MoeTest, ARouterForAnotherNumberOfExpertsIsRefused) {
  moe().experts = 8;
  EXPECT_THAT(BindMoe(spec_, 1, *weights_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("model.layers.1.mlp.gate.weight"),
                             HasSubstr("8 FFN experts"), HasSubstr("found 6 rows"))));
}

TEST_F(MoeTest, MoreExpertsThanTheConfigNamesAreRefused) {
  ASSERT_OK_AND_ASSIGN(const auto weights, Changed([](auto& tensors) {
                         for (const char* matrix : {"gate", "up", "down"}) {
                           const std::string end = std::string(matrix) + "_proj.weight";
                           tensors[std::string(kLayer) + "mlp.experts.6." + end] =
                               tensors[std::string(kLayer) + "mlp.experts.5." + end];
                         }
                       }));
  EXPECT_THAT(BindMoe(spec_, 1, *weights),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("model.layers.1.mlp.experts.6.gate_proj.weight"),
                             HasSubstr("experts 0 to 5"))));
}

TEST_F(MoeTest, NamesAMissingExpertAndOneOfAnotherShape) {
  ASSERT_OK_AND_ASSIGN(const auto weights, Changed([](auto& tensors) {
                         tensors.erase(std::string(kLayer) + "mlp.experts.2.up_proj.weight");
                         tensors.erase(std::string(kLayer) + "mlp.shared_expert_gate.weight");
                       }));
  EXPECT_OK(BindFfnExpert(spec_, 1, 1, *weights));
  EXPECT_THAT(BindFfnExpert(spec_, 1, 2, *weights),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("model.layers.1.mlp.experts.2.up_proj.weight is missing")));
  EXPECT_THAT(BindMoe(spec_, 1, *weights),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("shared_expert_gate.weight")));
  moe().intermediate = 17;
  EXPECT_THAT(BindFfnExpert(spec_, 1, 1, *weights),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("mlp.experts.1.gate_proj.weight"),
                             HasSubstr("expected shape [17, 24]"), HasSubstr("[16, 24]"))));
}

TEST_F(MoeTest, NamesAMissingRouterAndCorrectionBias) {
  moe().correction_bias = true;
  EXPECT_THAT(BindMoe(spec_, 1, *weights_),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("model.layers.1.mlp.gate.e_score_correction_bias")));
  ASSERT_OK_AND_ASSIGN(const auto weights, Changed([](auto& tensors) {
                         tensors.erase(std::string(kLayer) + "mlp.gate.weight");
                       }));
  EXPECT_THAT(BindMoe(spec_, 1, *weights),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("model.layers.1.mlp.gate.weight is missing")));
}

TEST_F(MoeTest, RoutedRowsListExpertsInRisingOrderAndKeepTheInput) {
  ASSERT_OK_AND_ASSIGN(const MoeWeights bound, BindMoe(spec_, 1, *weights_));
  std::vector<float> hidden(3 * 24);
  std::iota(hidden.begin(), hidden.end(), -30.0f);
  ASSERT_OK_AND_ASSIGN(const RoutedRows routed,
                       RouteRows({spec_, 1, bound}, nullptr,
                                 kernels::F32Matrix(hidden.data(), 3, 24), *ops_, scratch_));
  EXPECT_EQ(routed.layer, 1);
  EXPECT_EQ(routed.offsets, (std::vector<int32_t>{0, 2, 4, 6}));
  for (size_t row = 0; row < 3; ++row) {
    EXPECT_LT(routed.experts[2 * row], routed.experts[2 * row + 1]);
  }
  EXPECT_EQ(routed.rows.rows, 3);
  EXPECT_EQ(routed.rows.cols, 24);
  std::vector<float> normed(hidden.size());
  ops_->RmsNorm(kernels::F32Matrix(hidden.data(), 3, 24), bound.norm, spec_.norm_eps,
                kernels::F32Matrix(normed.data(), 3, 24));
  const auto* rows = static_cast<const float*>(routed.rows.data);
  EXPECT_EQ(std::vector<float>(rows, rows + normed.size()), normed);
}

TEST_F(MoeTest, NoRowsAreNoPairs) {
  ASSERT_OK_AND_ASSIGN(const MoeWeights bound, BindMoe(spec_, 1, *weights_));
  ASSERT_OK_AND_ASSIGN(const RoutedRows routed, RouteRows({spec_, 1, bound}, nullptr,
                                                          kernels::ConstMatrix{}, *ops_, scratch_));
  EXPECT_EQ(routed.pairs(), 0);
  EXPECT_EQ(routed.offsets, std::vector<int32_t>{0});
  EXPECT_OK(RunFfnExperts(spec_.layers[1].ffn, {}, {}, *ops_, scratch_, {}));
}

// down(silu(gate x) * up x) * weight, by Linear alone.
std::vector<float> OneExpert(const FfnExpertWeights& expert, const std::vector<float>& x,
                             float weight, kernels::Ops& ops) {
  std::vector<float> gate(16), up(16), out(24);
  const auto row = [](std::vector<float>& values) {
    return kernels::F32Matrix(values.data(), 1, static_cast<int64_t>(values.size()));
  };
  std::vector<float> input = x;
  ops.Linear(row(input), {{expert.gate, {}, row(gate), false}, {expert.up, {}, row(up), false}});
  ops.GatedActivation(kernels::Activation::kSilu, row(gate), row(up), row(gate));
  ops.Linear(row(gate), {{expert.down, {}, row(out), false}});
  for (float& value : out) value *= weight;
  return out;
}

TEST_F(MoeTest, PairsInAnyOrderGoThroughTheirExperts) {
  std::vector<FfnExpertWeights> experts(6);
  for (const int32_t e : {1, 4}) {
    ASSERT_OK_AND_ASSIGN(experts[static_cast<size_t>(e)], BindFfnExpert(spec_, 1, e, *weights_));
  }
  std::vector<float> x(2 * 24), out(4 * 24, 7.0f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 11) / 5.0f - 1.0f;
  const std::vector<int32_t> rows = {1, 0, 1}, chosen = {4, 4, 1}, places = {3, 0, 1};
  const std::vector<float> pair_weights = {0.5f, 2.0f, -1.0f};
  ASSERT_OK(RunFfnExperts(spec_.layers[1].ffn, experts,
                          {kernels::F32Matrix(x.data(), 2, 24), rows, chosen, pair_weights, places},
                          *ops_, scratch_, kernels::F32Matrix(out.data(), 4, 24)));
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::vector<float> row(x.begin() + rows[i] * 24, x.begin() + (rows[i] + 1) * 24);
    const std::vector<float> found(out.begin() + places[i] * 24,
                                   out.begin() + (places[i] + 1) * 24);
    testing::ExpectClose(
        found, OneExpert(experts[static_cast<size_t>(chosen[i])], row, pair_weights[i], *ops_),
        1e-5, "pair " + std::to_string(i));
  }
  EXPECT_EQ(std::vector<float>(out.begin() + 2 * 24, out.begin() + 3 * 24),
            std::vector<float>(24, 7.0f));
}

TEST_F(MoeTest, FinishAddsContributionsInOrderThenTheSharedOutput) {
  ASSERT_OK_AND_ASSIGN(const MoeWeights bound, BindMoe(spec_, 1, *weights_));
  std::vector<float> hidden(2 * 24, 1.0f), shared(2 * 24, 0.25f), contributions(3 * 24);
  for (size_t i = 0; i < contributions.size(); ++i) {
    contributions[i] = static_cast<float>(i / 24 + 1);
  }
  ASSERT_OK(
      FinishMoe({spec_, 1, bound},
                {kernels::F32Matrix(contributions.data(), 3, 24), std::vector<int32_t>{0, 1, 3}},
                kernels::F32Matrix(shared.data(), 2, 24), *ops_, scratch_,
                kernels::F32Matrix(hidden.data(), 2, 24)));
  EXPECT_EQ(hidden[0], 1.0f + (1.0f + 0.25f));
  EXPECT_EQ(hidden[24], 1.0f + (2.0f + 3.0f + 0.25f));
}

TEST_F(MoeTest, ThePostNormComesAfterTheSharedOutput) {
  spec_.layers[1].post_norms = true;
  MoeWeights bound;
  const std::vector<float> ones(24, 1.0f);
  bound.post_norm = kernels::F32Matrix(ones.data(), 1, 24);
  std::vector<float> hidden(24, 1.0f), shared(24, 3.0f), contributions(24, 5.0f);
  ASSERT_OK(FinishMoe({spec_, 1, bound},
                      {kernels::F32Matrix(contributions.data(), 1, 24), std::vector<int32_t>{0, 1}},
                      kernels::F32Matrix(shared.data(), 1, 24), *ops_, scratch_,
                      kernels::F32Matrix(hidden.data(), 1, 24)));
  EXPECT_NEAR(hidden[0], 2.0f, 1e-5f);
}

TEST_F(MoeTest, AGatedSharedExpertIsScaledByItsSigmoid) {
  ASSERT_OK_AND_ASSIGN(MoeWeights bound, BindMoe(spec_, 1, *weights_));
  std::vector<float> x(24, 0.5f), gated(24), plain(24);
  const kernels::Matrix rows = kernels::F32Matrix(x.data(), 1, 24);
  ASSERT_OK(RunSharedExpert({spec_, 1, bound}, rows, *ops_, scratch_,
                            kernels::F32Matrix(gated.data(), 1, 24)));
  moe().shared = SharedExpert::kPlain;
  ASSERT_OK(RunSharedExpert({spec_, 1, bound}, rows, *ops_, scratch_,
                            kernels::F32Matrix(plain.data(), 1, 24)));
  float logit = 0.0f;
  for (int i = 0; i < 24; ++i) logit += 0.5f * static_cast<const float*>(bound.shared_gate.data)[i];
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_NEAR(gated[i], plain[i] / (1.0f + std::exp(-logit)), 1e-5f);
  }
}

TEST_F(MoeTest, ABlockWithAllItsExpertsGivesTheBitsOfItsParts) {
  for (const bool post_norms : {false, true}) {
    for (const SharedExpert shared :
         {SharedExpert::kNone, SharedExpert::kPlain, SharedExpert::kSigmoidGated}) {
      moe().shared = shared;
      ASSERT_OK_AND_ASSIGN(MoeWeights bound, BindMoe(spec_, 1, *weights_));
      spec_.layers[1].post_norms = post_norms;
      bound.post_norm = bound.norm;
      std::vector<FfnExpertWeights> experts;
      for (int32_t e = 0; e < 6; ++e) {
        ASSERT_OK_AND_ASSIGN(experts.emplace_back(), BindFfnExpert(spec_, 1, e, *weights_));
      }
      std::vector<float> block(5 * 24);
      for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<float>(i * 7 % 23) - 11.0f;
      std::vector<float> parts = block, contributions(10 * 24), together(5 * 24);
      const kernels::Matrix hidden = kernels::F32Matrix(parts.data(), 5, 24);
      ASSERT_OK_AND_ASSIGN(const RoutedRows routed,
                           RouteRows({spec_, 1, bound}, nullptr, hidden, *ops_, scratch_));
      const std::vector<int32_t> rows = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4};
      const std::vector<int32_t> places = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
      ASSERT_OK(RunFfnExperts(spec_.layers[1].ffn, experts,
                              {routed.rows, rows, routed.experts, routed.weights, places}, *ops_,
                              scratch_, kernels::F32Matrix(contributions.data(), 10, 24)));
      kernels::Matrix shared_out;
      if (shared != SharedExpert::kNone) {
        shared_out = kernels::F32Matrix(together.data(), 5, 24);
        ASSERT_OK(RunSharedExpert({spec_, 1, bound}, routed.rows, *ops_, scratch_, shared_out));
      }
      ASSERT_OK(FinishMoe({spec_, 1, bound},
                          {kernels::F32Matrix(contributions.data(), 10, 24), routed.offsets},
                          shared_out, *ops_, scratch_, hidden));

      std::vector<int32_t> chosen(10);
      ASSERT_OK(RunMoeBlock({spec_, 1, bound}, experts, chosen.data(), *ops_, scratch_,
                            kernels::F32Matrix(block.data(), 5, 24)));
      EXPECT_EQ(block, parts);
      EXPECT_EQ(chosen, routed.experts);
      spec_.layers[1].post_norms = false;
    }
  }
}

TEST_F(MoeTest, ReservedScratchHasRoomForAllOfABlock) {
  testing::TaggedDevice device;
  MoeScratch scratch(&device);
  ASSERT_OK(scratch.Reserve(spec_, 9));
  device.WatchLowestFree();
  const int64_t free = device.FreeBytes();
  ASSERT_OK(scratch.Reserve(spec_, 4));
  EXPECT_EQ(device.lowest_free(), free);
  const ModelSpec dense = testing::TinySpec();
  MoeScratch none(&device);
  ASSERT_OK(none.Reserve(dense, 9));
  EXPECT_EQ(device.FreeBytes(), free);
}

}  // namespace
}  // namespace ccoe::model
