// SPDX-License-Identifier: Apache-2.0

#include "runtime/model/block.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
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

TEST(ScratchTest, GrowsByDoublingAtLeastAndNeverShrinks) {
  kernels::Buffer buffer;
  ASSERT_OK(GrowScratch(&kernels::CpuDevice(), 10, buffer));
  EXPECT_EQ(buffer.size_bytes(), 40u);
  ASSERT_OK(GrowScratch(&kernels::CpuDevice(), 11, buffer));
  EXPECT_EQ(buffer.size_bytes(), 80u);
  ASSERT_OK(GrowScratch(&kernels::CpuDevice(), 1, buffer));
  EXPECT_EQ(buffer.size_bytes(), 80u);
  ASSERT_OK(GrowScratch(&kernels::CpuDevice(), 100, buffer));
  EXPECT_EQ(buffer.size_bytes(), 400u);
}

TEST(ScratchTest, NothingNeedsNoMemory) {
  kernels::Buffer buffer;
  ASSERT_OK(GrowScratch(&kernels::CpuDevice(), 0, buffer));
  EXPECT_EQ(buffer.data(), nullptr);
}

TEST(ScratchTest, ColumnsOfAMatrixKeepItsStride) {
  std::vector<float> values = {0, 1, 2, 3, 4, 5};
  const kernels::Matrix columns = Columns(kernels::F32Matrix(values.data(), 2, 3), 1, 2);
  EXPECT_EQ(columns.rows, 2);
  EXPECT_EQ(columns.cols, 2);
  EXPECT_EQ(static_cast<float*>(columns.Row(1))[0], 4.0f);
}

constexpr int64_t kRows = 7;

TEST(MoeScratchTest, WhatWasReservedIsRoomForPassesUpToThat) {
  testing::TaggedDevice device;
  const ModelSpec spec = testing::TinyMoeSpec();
  MoeScratch scratch(&device);
  ASSERT_OK(scratch.Reserve(spec, kRows));
  device.ForbidAllocation();
  for (int64_t rows = 1; rows <= kRows; ++rows) ASSERT_OK(scratch.Reserve(spec, rows));
  for (const LayerSpec& layer : spec.layers) {
    if (!layer.ffn.is_moe()) continue;
    const MoeSpec& moe = layer.ffn.moe;
    const size_t pair_bytes = kRows * moe.gate.top_k * sizeof(float);
    EXPECT_GE(scratch.logits.size_bytes(), kRows * moe.experts * sizeof(float));
    EXPECT_GE(scratch.contributions.size_bytes(), pair_bytes * spec.hidden_size);
    EXPECT_GE(scratch.gate.size_bytes(), pair_bytes * moe.intermediate);
    EXPECT_GE(scratch.up.size_bytes(), kRows * moe.shared_intermediate * sizeof(float));
  }
}

TEST(MoeScratchTest, AModelWithoutFfnExpertsTakesNothing) {
  testing::TaggedDevice device;
  MoeScratch scratch(&device);
  ASSERT_OK(scratch.Reserve(testing::TinySpec(), kRows));
  EXPECT_EQ(device.taken_bytes(), 0);
}

TEST(MoeScratchTest, ADeviceThatIsTooSmallSaysSo) {
  testing::TaggedDevice device(/*capacity_bytes=*/4096);
  MoeScratch scratch(&device);
  EXPECT_THAT(scratch.Reserve(testing::TinyMoeSpec(), 100000),
              testing::StatusIs(absl::StatusCode::kResourceExhausted));
}

struct Taken {
  int32_t layer;
  std::vector<int32_t> offsets, experts;

  friend bool operator==(const Taken& a, const Taken& b) {
    return a.layer == b.layer && a.offsets == b.offsets && a.experts == b.experts;
  }
};

class MoeChoicesTest : public ::testing::Test {
 protected:
  // A dense layer between two of FFN experts, two and three a row.
  void SetUp() override {
    spec_.layers.insert(spec_.layers.begin(), spec_.layers[1]);
    spec_.layers[2].ffn.moe.gate.top_k = 3;
  }

  // As a gate would.
  void Write(int32_t layer, int64_t rows, const std::vector<int32_t>& experts) {
    int32_t* const to = choices_.Keep(layer, rows);
    ASSERT_OK(device_.CopyFromHost(experts.data(), to, experts.size() * sizeof(int32_t)));
  }
  std::vector<Taken> Take() {
    std::vector<Taken> taken;
    EXPECT_OK(choices_.Take([&](int32_t layer, absl::Span<const int32_t> offsets,
                                absl::Span<const int32_t> experts) {
      taken.push_back({layer, {offsets.begin(), offsets.end()}, {experts.begin(), experts.end()}});
    }));
    EXPECT_TRUE(choices_.empty());
    return taken;
  }

  testing::TaggedDevice device_;
  ModelSpec spec_ = testing::TinyMoeSpec();
  MoeChoices choices_{&device_};
};

TEST_F(MoeChoicesTest, GivesBackEachLayersChoiceOnce) {
  ASSERT_OK(choices_.Begin(spec_, {0, 3}, 2));
  EXPECT_TRUE(choices_.empty());
  Write(2, 2, {0, 3, 5, 1, -1, -1});
  Write(0, 2, {1, 4, 0, 2});
  EXPECT_FALSE(choices_.empty());
  EXPECT_THAT(Take(),
              ElementsAre(Taken{0, {0, 2, 4}, {1, 4, 0, 2}}, Taken{2, {0, 3, 4}, {0, 3, 5, 1}}));
  EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(MoeChoicesTest, APassThatGoesOnWithFewerRowsKeepsWhatItHad) {
  ASSERT_OK(choices_.Begin(spec_, {0, 3}, 3));
  Write(0, 3, {0, 1, 2, 3, 4, 5});
  ASSERT_OK(choices_.Begin(spec_, {0, 3}, 1));
  EXPECT_EQ(choices_.rows_apart(), 3);
  Write(2, 1, {1, 2, 3});
  EXPECT_THAT(Take(),
              ElementsAre(Taken{0, {0, 2, 4, 6}, {0, 1, 2, 3, 4, 5}}, Taken{2, {0, 3}, {1, 2, 3}}));
  ASSERT_OK(choices_.Begin(spec_, {0, 3}, 1));
  EXPECT_EQ(choices_.rows_apart(), 1);
}

TEST_F(MoeChoicesTest, MoreRowsOrOtherLayersDropWhatWasKept) {
  ASSERT_OK(choices_.Begin(spec_, {0, 3}, 1));
  Write(0, 1, {0, 1});
  ASSERT_OK(choices_.Begin(spec_, {0, 3}, 2));
  EXPECT_THAT(Take(), IsEmpty());
  Write(0, 2, {0, 1, 2, 3});
  ASSERT_OK(choices_.Begin(spec_, {1, 3}, 2));
  EXPECT_THAT(Take(), IsEmpty());
  Write(2, 2, {0, 1, 2, 3, 4, 5});
  choices_.Drop();
  EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(MoeChoicesTest, TheSameLayerAgainReplacesItsChoice) {
  ASSERT_OK(choices_.Begin(spec_, {0, 3}, 2));
  Write(0, 2, {0, 1, 2, 3});
  Write(0, 1, {4, 5});
  EXPECT_THAT(Take(), ElementsAre(Taken{0, {0, 2}, {4, 5}}));
}

TEST_F(MoeChoicesTest, PassesOnThatTheDeviceIsFull) {
  testing::TaggedDevice full(8);
  MoeChoices choices(&full);
  EXPECT_THAT(choices.Begin(spec_, {0, 3}, 2), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace ccoe::model
