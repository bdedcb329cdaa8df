// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/model_runner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/engine/moe_statistics.h"
#include "runtime/exchange/row_block.h"
#include "tests/testing/device_rows.h"
#include "tests/testing/engine_cluster.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/model_run.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::GoldenBackbone;
using ::ccoe::testing::GoldenFolder;
using ::ccoe::testing::IsOk;
using ::ccoe::testing::ModelRun;
using ::testing::ElementsAre;

const std::vector<int32_t> kIds = {507, 46, 77, 12, 300};

class ModelRunnerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(BackboneModel model, GoldenBackbone("ccoe/backbone"));
    ASSERT_OK_AND_ASSIGN(runner_,
                         ModelRunner::Create(std::move(model), kernels::MakeCpuOps(&team_), 4, 4));
    ASSERT_OK_AND_ASSIGN(auto run, ModelRun::Open(GoldenFolder("ccoe/backbone"), {}));
    ASSERT_OK_AND_ASSIGN(expected_, run->Feed(kIds));
  }

  model::RowBatch Batch() const {
    model::RowBatch batch;
    batch.sequences.push_back({0, static_cast<int64_t>(kIds.size()), 0, table_});
    return batch;
  }

  ThreadTeam team_{1};
  const std::vector<int32_t> table_ = {2, 0};
  std::unique_ptr<ModelRunner> runner_;
  ccoe::testing::RunOutput expected_;
};

TEST_F(ModelRunnerTest, LayersInPartsAndTheHeadGiveTheModelsLogits) {
  ASSERT_OK(runner_->Embed(kIds));
  ASSERT_OK(runner_->Run({0, 3}, Batch()));
  ASSERT_OK(runner_->Run({3, 3}, Batch()));  // nothing to do
  ASSERT_OK(runner_->Run({3, 8}, Batch()));
  std::vector<float> logits;
  ASSERT_OK(runner_->Logits(*runner_->model().head, std::vector<int32_t>{0, 1, 2, 3, 4}));
  ASSERT_OK(runner_->ReadLogits(0, 5, logits));
  EXPECT_EQ(logits, expected_.logits);
  std::vector<float> last;
  ASSERT_OK(runner_->ReadLogits(4, 1, last));
  EXPECT_EQ(last, std::vector<float>(logits.end() - runner_->vocab_size(), logits.end()));
  ASSERT_OK(runner_->Logits(*runner_->model().head, std::vector<int32_t>{4}));
  ASSERT_OK(runner_->ReadLogits(0, 1, last));
  EXPECT_EQ(last, std::vector<float>(logits.end() - runner_->vocab_size(), logits.end()));
}

TEST_F(ModelRunnerTest, TokensAreChosenFromAnyRowsOfTheLogits) {
  ASSERT_OK(runner_->Embed(kIds));
  ASSERT_OK(runner_->Run({0, 8}, Batch()));
  ASSERT_OK(runner_->Logits(*runner_->model().head, std::vector<int32_t>{0, 1, 2, 3, 4}));
  std::vector<kernels::SampledRow> sampled(2);
  ASSERT_OK(
      runner_->Sample(3, std::vector<kernels::SampleRow>(2), absl::MakeSpan(sampled)));  // greedy
  for (int row : {3, 4}) {
    const auto begin = expected_.logits.begin() + row * runner_->vocab_size();
    EXPECT_EQ(sampled[row - 3].token_id,
              std::max_element(begin, begin + runner_->vocab_size()) - begin);
  }
}

TEST_F(ModelRunnerTest, LayerOutputsCanBeReadOnTheWay) {
  const int64_t values = kIds.size() * runner_->hidden_size();
  std::vector<std::vector<float>> planes;
  const auto read = [&](int32_t) {
    planes.emplace_back(values);
    return runner_->Read(0, kIds.size(), planes.back().data());
  };
  ASSERT_OK(runner_->Embed(kIds));
  ASSERT_OK(read(-1));
  ASSERT_OK(runner_->Run({0, 8}, Batch(), read));
  EXPECT_EQ(planes, expected_.hidden);
}

TEST_F(ModelRunnerTest, AnErrorOfTheReaderComesBack) {
  ASSERT_OK(runner_->Embed(kIds));
  EXPECT_THAT(runner_->Run({0, 2}, Batch(), [](int32_t) { return absl::InternalError("x"); }),
              ccoe::testing::StatusIs(absl::StatusCode::kInternal));
}

TEST_F(ModelRunnerTest, KeepAndReadPickRows) {
  const int64_t width = runner_->hidden_size();
  std::vector<float> rows;
  for (int r = 0; r < 4; ++r) rows.insert(rows.end(), width, static_cast<float>(r));
  ASSERT_OK(runner_->Load(rows));
  std::vector<float> picked;
  ASSERT_OK(runner_->Read(std::vector<int32_t>{3, 1}, picked));
  EXPECT_EQ(picked[0], 3.0f);
  EXPECT_EQ(picked[width], 1.0f);
  ASSERT_OK(runner_->Keep(std::vector<int32_t>{2, 3}));
  ASSERT_OK(runner_->Read(std::vector<int32_t>{0, 1}, picked));
  EXPECT_EQ(picked[0], 2.0f);
  EXPECT_EQ(picked[width], 3.0f);
}

TEST(MoeModelRunnerTest, WhatRowsChoseIsCountedAtTheNextWaitOnce) {
  ThreadTeam team(1);
  ASSERT_OK_AND_ASSIGN(BackboneModel model, GoldenBackbone("mixtral-8x2"));
  MoeStatistics statistics(model.spec);
  const model::LayerRange all = model.decoder->layers();
  ASSERT_OK_AND_ASSIGN(const auto runner,
                       ModelRunner::Create(std::move(model), kernels::MakeCpuOps(&team), 4, 4));
  runner->CountIn(&statistics);
  const std::vector<int32_t> table = {2, 0};
  model::RowBatch batch;
  batch.sequences.push_back({0, static_cast<int64_t>(kIds.size()), 0, table});
  const auto run = [&] {
    ASSERT_OK(runner->Embed(kIds));
    ASSERT_OK(runner->Run(all, batch));
  };
  const uint64_t pairs = kIds.size() * 2 * static_cast<uint64_t>(all.size());
  run();
  EXPECT_EQ(statistics.routed_pairs(), 0u);
  std::vector<float> logits;
  ASSERT_OK(runner->Logits(*runner->model().head, std::vector<int32_t>{4}));
  ASSERT_OK(runner->ReadLogits(0, 1, logits));
  EXPECT_EQ(statistics.routed_pairs(), pairs);
  ASSERT_OK(runner->CountChoices());
  EXPECT_EQ(statistics.routed_pairs(), pairs);

  run();
  ASSERT_OK(runner->CountChoices());
  EXPECT_EQ(statistics.routed_pairs(), 2 * pairs);
  run();
  runner->DropChoices();
  ASSERT_OK(runner->CountChoices());
  EXPECT_EQ(statistics.routed_pairs(), 2 * pairs);
}

// A branch's hidden states behind its first MoE layer, on a device of its own that gives no memory
// once the runner is made; with or without another branch that runs while it is suspended there.
std::vector<float> RunThroughMoeLayer(const std::string& model, bool suspend, int room,
                                      bool combine) {
  testing::TaggedDevice device;
  ThreadTeam team(1);
  auto backbone = GoldenBackbone(model, -1, &device);
  EXPECT_OK(backbone.status());
  const model::ModelSpec spec = backbone->spec;
  auto made = ModelRunner::Create(*std::move(backbone), testing::MakeTaggedOps(&device, &team), 8,
                                  4, kernels::DType::kF32, {/*max_rows=*/5, /*suspended=*/room});
  EXPECT_OK(made.status());
  device.ForbidAllocation();
  ModelRunner& runner = **made;
  int32_t layer = 0;
  while (!spec.layers[static_cast<size_t>(layer)].ffn.is_moe()) ++layer;
  const std::vector<int32_t> ids = {5, 46, 77, 12, 30}, pages = {2, 0}, other_pages = {1, 3};
  const auto batch_of = [&](const std::vector<int32_t>& table) {
    model::RowBatch batch;
    batch.sequences.push_back({0, 5, 0, table});
    return batch;
  };
  EXPECT_OK(runner.Embed(ids));
  EXPECT_OK(runner.Run({0, layer}, batch_of(pages)));
  EXPECT_OK(runner.Attend(layer, batch_of(pages)));
  const auto routed = runner.Route(layer, nullptr);
  EXPECT_OK(routed.status());
  FfnPart part;
  part.rows = {0, 1, 2, 3, 4};
  part.pairs.resize(routed->experts.size());
  std::iota(part.pairs.begin(), part.pairs.end(), 0);
  part.swap.layer = layer;
  part.swap.combine = combine;
  part.swap.offsets = routed->offsets;
  part.swap.experts = routed->experts;
  part.swap.weights = routed->weights;
  EXPECT_OK(runner.RunHere(part, *routed));
  EXPECT_OK(runner.RunShared(*routed));
  if (suspend) {
    auto parked = runner.Park();
    EXPECT_OK(parked.status());
    EXPECT_OK(runner.Embed(std::vector<int32_t>(ids.rbegin(), ids.rend())));
    EXPECT_OK(runner.Run({0, layer}, batch_of(other_pages)));
    EXPECT_OK(runner.Attend(layer, batch_of(other_pages)));
    EXPECT_OK(runner.Restore(*std::move(parked)));
  }
  const std::vector<FfnPart> parts = {part};
  const std::vector<const FfnPart*> views = {&parts[0]};
  const CombineOrder order = OrderOf(*routed, views, combine);
  EXPECT_OK(runner.FinishMoe(layer, {order.offsets, order.places[0], {}}));
  // The pass may have ended: what follows begins another.
  EXPECT_OK(runner.Attend(layer, batch_of(pages)));
  std::vector<float> hidden;
  EXPECT_OK(runner.Read(std::vector<int32_t>{0, 1, 2, 3, 4}, hidden));
  return hidden;
}

TEST(ModelRunnerMemoryTest, SuspendedBranchesWaitOnTheDeviceOrInHostMemoryWithTheSameBits) {
  for (const char* model : {"mixtral-8x2", "qwen2moe-shared", "deepseek-v3"}) {
    for (const bool combine : {false, true}) {
      const std::vector<float> expected = RunThroughMoeLayer(model, false, 0, combine);
      EXPECT_EQ(RunThroughMoeLayer(model, true, 0, combine), expected) << model;
      EXPECT_EQ(RunThroughMoeLayer(model, true, 1, combine), expected) << model;
    }
  }
}

TEST_F(ModelRunnerTest, RowsAreHandedOverOnTheDeviceOrWithoutRoomInHostMemory) {
  const int64_t width = runner_->hidden_size();
  std::vector<float> rows;
  for (int r = 0; r < 4; ++r) rows.insert(rows.end(), width, 0.1f + static_cast<float>(r));
  const std::vector<float> expected(rows.begin() + width, rows.begin() + 2 * width);
  ASSERT_OK_AND_ASSIGN(
      const auto memory,
      exchange::RowMemory::Create(&kernels::CpuDevice(), (2 * width + 511) / 512 * 512));
  ASSERT_OK(runner_->Load(rows));
  const RowForm form = {memory.get(), kernels::DType::kBF16};
  ASSERT_OK_AND_ASSIGN(exchange::RowBlock block, runner_->HandOver(std::vector<int32_t>{1}, form));
  ASSERT_OK(runner_->Wait());
  ASSERT_TRUE(block.on_device());
  std::vector<float> rounded = expected;
  exchange::RoundToWire(kernels::DType::kBF16, absl::MakeSpan(rounded));
  EXPECT_EQ(ccoe::testing::HostValues(block), rounded);
  ASSERT_OK_AND_ASSIGN(const exchange::RowBlock host,
                       runner_->HandOver(std::vector<int32_t>{1}, form));
  EXPECT_FALSE(host.on_device());
  EXPECT_EQ(ccoe::testing::HostValues(host), expected);
  // The block's room is free again when its rows have been read.
  ASSERT_OK(runner_->Load(std::exchange(block, {})));
  EXPECT_EQ(memory->free_bytes(), 0u);
  std::vector<float> read;
  ASSERT_OK(runner_->Read(std::vector<int32_t>{0}, read));
  EXPECT_EQ(read, rounded);
  EXPECT_EQ(memory->free_bytes(), memory->size_bytes());
}

TEST_F(ModelRunnerTest, MemoryOfAnotherDeviceIsNotWrittenTo) {
  ccoe::testing::TaggedDevice other;
  ASSERT_OK_AND_ASSIGN(const auto memory, exchange::RowMemory::Create(&other, 1 << 20));
  ASSERT_OK(runner_->Load(std::vector<float>(static_cast<size_t>(runner_->hidden_size()))));
  ASSERT_OK_AND_ASSIGN(
      const exchange::RowBlock block,
      runner_->HandOver(std::vector<int32_t>{0}, {memory.get(), kernels::DType::kF32}));
  EXPECT_FALSE(block.on_device());
}

}  // namespace
}  // namespace ccoe::engine
