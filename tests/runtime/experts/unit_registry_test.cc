// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/unit_registry.h"

#include <memory>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/exchange/swap_result.h"
#include "tests/runtime/experts/swaps.h"
#include "tests/runtime/experts/tiny_expert.h"
#include "tests/runtime/experts/tiny_ffn_experts.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::StatusIs;
using exchange::ReasonOf;
using exchange::SwapReason;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class UnitRegistryTest : public ::testing::Test {
 protected:
  std::shared_ptr<LayerUnit> MakeUnit(const std::string& name, uint32_t seed) {
    auto unit = LayerUnit::Create(layers_spec_, experts_.Make(name, seed), {kTinyLayers, 8, 4},
                                  &kernels::CpuDevice());
    CCOE_CHECK(unit.ok());
    return *std::move(unit);
  }
  void Add(UnitRegistry& registry, const model::FfnShard& shard) {
    const auto bound = UnitRegistry::Bind(tiny_.spec, shard, *tiny_.weights);
    CCOE_CHECK(bound.ok());
    registry.Add(*bound, tiny_.weights);
  }

  const model::ModelSpec layers_spec_ = TinySpec();
  TinyExperts experts_;
  TinyFfnExperts tiny_;
};

TEST_F(UnitRegistryTest, ALayerExpertIsHeldUntilTheLastHandleGoes) {
  UnitRegistry registry(layers_spec_);
  ASSERT_OK(registry.Add(MakeUnit("math", 1)));
  EXPECT_THAT(registry.CheckAbsent({"math", 1}),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("math@1")));
  EXPECT_OK(registry.CheckAbsent({"math", 2}));
  const std::shared_ptr<LayerUnit> in_pass = registry.Layers({"math", 1});
  const std::weak_ptr<LayerUnit> watched = in_pass;
  {
    ASSERT_OK_AND_ASSIGN(const std::shared_ptr<LayerUnit> removed, registry.Remove({"math", 1}));
    EXPECT_EQ(removed, in_pass);
  }
  EXPECT_FALSE(watched.expired());
  EXPECT_THAT(registry.Remove({"math", 1}).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("it holds none")));
  EXPECT_OK(registry.CheckAbsent({"math", 1}));
}

TEST_F(UnitRegistryTest, NamesWhatItHoldsWhereALayerExpertIsMissing) {
  UnitRegistry registry(layers_spec_);
  ASSERT_OK(registry.Add(MakeUnit("math", 1)));
  ASSERT_OK(registry.Add(MakeUnit("code", 2)));
  EXPECT_OK(registry.Check(LayerHeader(1, {{1, 0, 1}})));
  const absl::Status unknown = registry.Check(LayerHeader(5, {{1, 0, 1}}, "law"));
  EXPECT_EQ(ReasonOf(unknown), SwapReason::kUnknownExpert);
  EXPECT_EQ(unknown.message(),
            "swap 5: expert law@1 is not on this worker; it holds code@1, math@1");
  const absl::Status wrong = registry.Check(LayerHeader(6, {{1, 0, 1}}, "math", {0, 3}));
  EXPECT_EQ(ReasonOf(wrong), SwapReason::kInvalid);
  EXPECT_THAT(std::string(wrong.message()), HasSubstr("expected [1, 3), found [0, 3)"));
}

TEST_F(UnitRegistryTest, NamesFfnExpertsThatAreMissing) {
  UnitRegistry registry(tiny_.spec);
  const auto check = [&](int32_t layer, const std::vector<std::vector<int32_t>>& experts) {
    return registry.Check(TinyFfnExperts::Header(7, layer, experts));
  };
  EXPECT_THAT(std::string(check(1, {{0}}).message()), HasSubstr("it holds none"));
  model::FfnShard shard;
  shard.Add(1, 0);
  shard.Add(1, 4);
  Add(registry, shard);
  EXPECT_OK(check(1, {{0, 4}, {4}}));
  for (const auto& [layer, expert] : {std::pair(1, 3), {2, 0}, {1, 1000}}) {
    const absl::Status missing = check(layer, {{0}, {expert}});
    EXPECT_EQ(ReasonOf(missing), SwapReason::kUnknownExpert);
    EXPECT_THAT(std::string(missing.message()),
                HasSubstr(absl::StrCat("layer ", layer, " FFN expert ", expert, " is not")));
  }
  for (const int32_t layer : {0, 3, 1 << 30}) {
    const absl::Status wrong = check(layer, {{0}});
    EXPECT_EQ(ReasonOf(wrong), SwapReason::kInvalid);
    EXPECT_THAT(std::string(wrong.message()),
                HasSubstr(absl::StrCat("layer ", layer, " of the model has no FFN")));
  }
}

TEST_F(UnitRegistryTest, FfnExpertsThatWereHandedOutDoNotChange) {
  UnitRegistry registry(tiny_.spec);
  EXPECT_EQ(registry.Ffn(1), nullptr);
  model::FfnShard shard;
  shard.Add(1, 0);
  Add(registry, shard);
  const auto in_pass = registry.Ffn(1);
  shard.Add(1, 2);
  Add(registry, shard);
  EXPECT_TRUE((*in_pass)[2].gate.empty());
  EXPECT_FALSE((*registry.Ffn(1))[2].gate.empty());
  const UnitQueue queue({});
  EXPECT_TRUE(registry.Load(queue).ffn.shard == shard);
  EXPECT_EQ(registry.Load(queue).ffn.weight_bytes, 2 * 3 * 16 * kTinyHidden * 4);
}

TEST_F(UnitRegistryTest, AShardIsBoundWholeOrNotAtAll) {
  model::FfnShard outside;
  outside.Add(1, 0);
  outside.Add(1, 6);
  EXPECT_THAT(UnitRegistry::Bind(tiny_.spec, outside, *tiny_.weights).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("6")));
  // Another checkpoint, whose second layer of experts is narrower than the config says.
  model::ModelSpec narrow = tiny_.spec;
  narrow.layers[2].ffn.moe.intermediate = 12;
  testing::TempFolder folder;
  ASSERT_OK(testing::WriteTinyWeights(narrow, folder.path(), 1));
  ASSERT_OK_AND_ASSIGN(const auto weights, model::Weights::Open(folder.path()));
  EXPECT_THAT(UnitRegistry::Bind(tiny_.spec, model::FfnShard::All(tiny_.spec), *weights).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("model.layers.2.mlp.experts.0.gate_proj.weight")));
}

TEST_F(UnitRegistryTest, LoadTellsWhatWaitsForWhom) {
  UnitRegistry registry(layers_spec_);
  ASSERT_OK(registry.Add(MakeUnit("math", 1)));
  UnitQueue queue({});
  ASSERT_OK(queue.Push(Waiting(LayerHeader(1, {{1, 0, 2}}), TinyRows(2, 1))));
  ASSERT_OK(queue.Push(Waiting(FfnHeader(2, 1, {{0}, {0}, {0}}, 32), TinyRows(3, 1))));
  const HostLoad load = registry.Load(queue);
  EXPECT_EQ(load.waiting_swaps, 2);
  EXPECT_EQ(load.waiting_rows, 5);
  EXPECT_EQ(load.waiting_bytes, queue.waiting_bytes());
  ASSERT_THAT(load.experts, SizeIs(1));
  EXPECT_EQ(load.experts[0].waiting_rows, 2);
  EXPECT_EQ(load.ffn.waiting_rows, 3);
  EXPECT_EQ(load.experts[0].kv_tokens_total, 32);
}

}  // namespace
}  // namespace ccoe::experts
