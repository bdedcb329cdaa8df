// SPDX-License-Identifier: Apache-2.0
// The gate of every golden model of FFN experts against the reference: logits, choice and weights.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/head.h"
#include "runtime/model/weights.h"
#include "tests/testing/expect_close.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using testing::ExpectClose;
using testing::GoldenModel;
using testing::GoldenPrompt;

class GoldenRoutingTest : public ::testing::TestWithParam<std::string> {};

// Experts and weights of the reference, [rows, k] heaviest first, as the decoder gives them.
RoutedRows InOrderOfExpert(const std::vector<int64_t>& experts, const std::vector<float>& weights,
                           size_t rows) {
  RoutedRows routed;
  routed.offsets.push_back(0);
  const size_t k = experts.size() / rows;
  for (size_t row = 0; row < rows; ++row) {
    std::vector<std::pair<int32_t, float>> chosen;
    for (size_t i = row * k; i < (row + 1) * k; ++i) {
      chosen.emplace_back(static_cast<int32_t>(experts[i]), weights[i]);
    }
    std::sort(chosen.begin(), chosen.end());
    for (const auto& [expert, weight] : chosen) {
      routed.experts.push_back(expert);
      routed.weights.push_back(weight);
    }
    routed.offsets.push_back(static_cast<int32_t>(routed.experts.size()));
  }
  return routed;
}

// The router's logits, which the decoder does not show.
std::vector<float> RouterLogits(const ModelSpec& spec, int32_t layer, const Weights& weights,
                                kernels::ConstMatrix hidden, kernels::Ops& ops) {
  MoeScratch scratch(&ops.device());
  const auto bound = BindMoe(spec, layer, weights);
  EXPECT_OK(bound);
  EXPECT_OK(RouteRows({spec, layer, *bound}, nullptr, hidden, ops, scratch));
  const auto count =
      static_cast<size_t>(hidden.rows * spec.layers[static_cast<size_t>(layer)].ffn.moe.experts);
  return std::vector<float>(scratch.logits.f32(), scratch.logits.f32() + count);
}

void ExpectRoutesAs(const RoutedRows& found, const GoldenModel& golden, const std::string& layer,
                    double tolerance) {
  const size_t rows = found.offsets.size() - 1;
  ASSERT_OK_AND_ASSIGN(const auto experts, golden.IntArray("router_experts." + layer));
  ASSERT_OK_AND_ASSIGN(const auto weights, golden.Array("router_weights." + layer));
  const RoutedRows expected = InOrderOfExpert(experts, weights, rows);
  EXPECT_EQ(found.offsets, expected.offsets) << layer;
  EXPECT_EQ(found.experts, expected.experts) << layer;
  ExpectClose(found.weights, expected.weights, tolerance, "router_weights." + layer);
}

TEST_P(GoldenRoutingTest, LogitsChoiceAndWeightsOfEveryLayerMatchTheReference) {
  ASSERT_OK_AND_ASSIGN(const GoldenModel golden, testing::LoadGolden(GetParam()));
  const double tolerance = testing::GoldenTolerance(GetParam());
  const auto prompt =
      std::find_if(golden.prompts.begin(), golden.prompts.end(),
                   [&](const GoldenPrompt& p) { return p.id == golden.hidden_prompt; });
  ASSERT_NE(prompt, golden.prompts.end());
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(golden.folder));
  ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(golden.folder));
  const LayerRange all{0, spec.layer_count()};
  ASSERT_OK_AND_ASSIGN(const auto decoder, Decoder::Create(spec, all, weights));
  ASSERT_OK_AND_ASSIGN(const auto embedding, TokenEmbedding::Create(spec, weights));
  ThreadTeam team(2);
  const auto ops = kernels::MakeCpuOps(&team);
  KvStorageOptions options;
  options.layers = all;
  options.pages = 4;
  ASSERT_OK_AND_ASSIGN(const auto kv, KvStorage::Create(&ops->device(), spec, options));

  const auto rows = static_cast<int64_t>(prompt->ids.size());
  std::vector<float> memory(static_cast<size_t>(rows * spec.hidden_size));
  const kernels::Matrix hidden = kernels::F32Matrix(memory.data(), rows, spec.hidden_size);
  ASSERT_OK(embedding->Embed(prompt->ids, *ops, hidden));
  const std::vector<int32_t> table = {2, 0, 3, 1};
  RowBatch batch;
  batch.sequences.push_back({0, rows, 0, table});
  ASSERT_OK_AND_ASSIGN(const DecoderPass pass, decoder->BeginPass(batch, *kv, *ops));
  DecoderScratch scratch(&ops->device());
  int routed_layers = 0;
  for (int32_t i = 0; i < spec.layer_count(); ++i) {
    ASSERT_OK(decoder->RunAttention(i, pass, *ops, scratch, hidden));
    if (spec.layers[static_cast<size_t>(i)].ffn.is_moe()) {
      const std::string layer = std::to_string(i);
      ASSERT_OK_AND_ASSIGN(const auto logits, golden.Array("router_logits." + layer));
      ExpectClose(RouterLogits(spec, i, *weights, hidden, *ops), logits, tolerance,
                  "router_logits." + layer);
      ASSERT_OK_AND_ASSIGN(const RoutedRows routed, decoder->Route(i, pass, *ops, scratch, hidden));
      ExpectRoutesAs(routed, golden, layer, tolerance);
      ++routed_layers;
    }
    ASSERT_OK(decoder->RunFfn(i, pass, *ops, scratch, hidden));
  }
  EXPECT_GE(routed_layers, 3);
}

std::string NameOf(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenRoutingTest, ::testing::ValuesIn(testing::MoeModels()),
                         NameOf);

}  // namespace
}  // namespace ccoe::model
