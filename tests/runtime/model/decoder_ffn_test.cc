// SPDX-License-Identifier: Apache-2.0
// The feed-forward half of decoder.h.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/families/random_model.h"
#include "runtime/model/safetensors.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

constexpr int64_t kPages = 8;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A decoder of all layers with its cache, and random rows to run through it.
struct Bench {
  static absl::StatusOr<std::unique_ptr<Bench>> Open(const std::string& folder,
                                                     const ModelSpec& spec) {
    auto bench = std::make_unique<Bench>();
    bench->spec = spec;
    const LayerRange all{0, spec.layer_count()};
    CCOE_ASSIGN_OR_RETURN(bench->weights, Weights::Open(folder));
    CCOE_ASSIGN_OR_RETURN(bench->decoder, Decoder::Create(spec, all, bench->weights));
    KvStorageOptions options;
    options.layers = all;
    options.pages = kPages;
    options.page_tokens = 8;
    CCOE_ASSIGN_OR_RETURN(bench->kv, KvStorage::Create(&kernels::CpuDevice(), spec, options));
    return bench;
  }

  std::vector<float> Rows(int64_t rows, int seed) const {
    std::vector<float> values(static_cast<size_t>(rows * spec.hidden_size));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] =
          static_cast<float>((i * 37 + i / 13 + static_cast<size_t>(seed) * 101) % 97) / 48.0f -
          1.0f;
    }
    return values;
  }
  kernels::Matrix View(std::vector<float>& rows) const {
    return kernels::F32Matrix(rows.data(), static_cast<int64_t>(rows.size()) / spec.hidden_size,
                              spec.hidden_size);
  }
  static RowBatch One(int64_t rows, absl::Span<const int32_t> table) {
    RowBatch batch;
    batch.sequences.push_back({0, rows, 0, table});
    return batch;
  }

  ModelSpec spec;
  ThreadTeam team{2};
  std::unique_ptr<kernels::Ops> ops = kernels::MakeCpuOps(&team);
  std::shared_ptr<const Weights> weights;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<KvStorage> kv;
  DecoderScratch scratch{&kernels::CpuDevice()};
};

// The pairs of routed rows whose experts `decoder` holds, each with its place as the row it goes
// to.
struct HeldPairs {
  HeldPairs(const RoutedRows& routed, const Decoder& decoder) {
    for (size_t row = 0; row + 1 < routed.offsets.size(); ++row) {
      for (int32_t i = routed.offsets[row]; i < routed.offsets[row + 1]; ++i) {
        const auto pair = static_cast<size_t>(i);
        if (!decoder.Holds(routed.layer, routed.experts[pair])) continue;
        rows.push_back(static_cast<int32_t>(row));
        experts.push_back(routed.experts[pair]);
        weights.push_back(routed.weights[pair]);
        places.push_back(i);
      }
    }
  }
  ExpertPairs View(kernels::ConstMatrix x) const { return {x, rows, experts, weights, places}; }

  std::vector<int32_t> rows, experts, places;
  std::vector<float> weights;
};

// A MoE layer in parts, its experts run by `holders`.
absl::Status RunInParts(int32_t layer, const DecoderPass& pass,
                        const std::vector<const Decoder*>& holders, Bench& bench,
                        kernels::Matrix hidden) {
  CCOE_ASSIGN_OR_RETURN(const RoutedRows routed,
                        bench.decoder->Route(layer, pass, *bench.ops, bench.scratch, hidden));
  std::vector<float> contributions(static_cast<size_t>(routed.pairs() * bench.spec.hidden_size),
                                   NAN);
  for (const Decoder* holder : holders) {
    DecoderScratch scratch(&kernels::CpuDevice());
    CCOE_RETURN_IF_ERROR(holder->RunHeldExperts(layer, HeldPairs(routed, *holder).View(routed.rows),
                                                *bench.ops, scratch, bench.View(contributions)));
  }
  std::vector<float> shared(static_cast<size_t>(hidden.rows * hidden.cols));
  kernels::ConstMatrix shared_view;
  if (bench.decoder->has_shared_expert(layer)) {
    CCOE_RETURN_IF_ERROR(bench.decoder->RunSharedExpert(layer, routed.rows, *bench.ops,
                                                        bench.scratch, bench.View(shared)));
    shared_view = bench.View(shared);
  }
  return bench.decoder->FinishMoe(layer, {bench.View(contributions), routed.offsets}, shared_view,
                                  *bench.ops, bench.scratch, hidden);
}

class MoeModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string folder = testing::GoldenFolder(GetParam());
    ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(folder));
    ASSERT_OK_AND_ASSIGN(bench_, Bench::Open(folder, spec));
  }
  LayerRange All() const { return {0, bench_->spec.layer_count()}; }

  // `rows` through all layers, MoE layers in parts; what was chosen at each of these.
  absl::StatusOr<std::vector<std::vector<int32_t>>> RunByLayer(const RowBatch& batch,
                                                               std::vector<float>& rows) {
    std::vector<std::vector<int32_t>> chosen;
    const kernels::Matrix hidden = bench_->View(rows);
    CCOE_ASSIGN_OR_RETURN(const DecoderPass pass,
                          bench_->decoder->BeginPass(batch, *bench_->kv, *bench_->ops));
    for (int32_t i = 0; i < All().last; ++i) {
      CCOE_RETURN_IF_ERROR(
          bench_->decoder->RunAttention(i, pass, *bench_->ops, bench_->scratch, hidden));
      if (!bench_->spec.layers[static_cast<size_t>(i)].ffn.is_moe()) {
        CCOE_RETURN_IF_ERROR(
            bench_->decoder->RunFfn(i, pass, *bench_->ops, bench_->scratch, hidden));
        continue;
      }
      CCOE_ASSIGN_OR_RETURN(const RoutedRows routed,
                            bench_->decoder->Route(i, pass, *bench_->ops, bench_->scratch, hidden));
      chosen.push_back(routed.experts);
      CCOE_RETURN_IF_ERROR(RunInParts(i, pass, {bench_->decoder.get()}, *bench_, hidden));
    }
    return chosen;
  }

  std::unique_ptr<Bench> bench_;
};

TEST_P(MoeModelTest, ARowGivesTheSameBitsAloneAndAmongMany) {
  const std::vector<int32_t> a = {5, 0}, b = {1}, c = {7, 2, 3};
  Bench& bench = *bench_;
  std::vector<float> alone = bench.Rows(1, 1), all = bench.Rows(7, 2);
  ASSERT_OK(bench.decoder->Run(All(), Bench::One(1, a), *bench.kv, *bench.ops, bench.scratch,
                               bench.View(alone)));
  for (const auto& part : {bench.Rows(1, 1), bench.Rows(20, 3)}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  RowBatch batch;
  batch.sequences = {{0, 7, 0, b}, {7, 1, 0, a}, {8, 20, 0, c}};
  ASSERT_OK(
      bench.decoder->Run(All(), batch, *bench.kv, *bench.ops, bench.scratch, bench.View(all)));
  const auto at = all.begin() + 7 * bench.spec.hidden_size;
  EXPECT_EQ(std::vector<float>(at, at + bench.spec.hidden_size), alone);
}

TEST_P(MoeModelTest, APromptInChunksGivesTheSameBits) {
  const std::vector<int32_t> table = {5, 0, 2};
  Bench& bench = *bench_;
  const int64_t hidden = bench.spec.hidden_size;
  const std::vector<float> input = bench.Rows(17, 1);
  std::vector<float> whole = input, chunks = input;
  ASSERT_OK(bench.decoder->Run(All(), Bench::One(17, table), *bench.kv, *bench.ops, bench.scratch,
                               bench.View(whole)));
  for (int64_t begin = 0; begin < 17; begin += 5) {
    const int64_t count = std::min<int64_t>(5, 17 - begin);
    RowBatch batch;
    batch.sequences.push_back({0, count, begin, table});
    ASSERT_OK(
        bench.decoder->Run(All(), batch, *bench.kv, *bench.ops, bench.scratch,
                           kernels::F32Matrix(chunks.data() + begin * hidden, count, hidden)));
  }
  EXPECT_EQ(chunks, whole);
}

TEST_P(MoeModelTest, LayersInPartsGiveTheSameBitsWhereverExpertsAreHeld) {
  Bench& bench = *bench_;
  FfnShard even, odd;
  const FfnShard whole = FfnShard::All(bench.spec);
  for (const auto& [layer, experts] : whole.layers()) {
    for (const int32_t expert : experts) (expert % 2 == 0 ? even : odd).Add(layer, expert);
  }
  ASSERT_OK_AND_ASSIGN(const auto first, Decoder::Create(bench.spec, All(), bench.weights, even));
  ASSERT_OK_AND_ASSIGN(const auto second, Decoder::Create(bench.spec, All(), bench.weights, odd));

  const std::vector<int32_t> table = {3, 4};
  std::vector<float> expected = bench.Rows(9, 1);
  ASSERT_OK(bench.decoder->Run(All(), Bench::One(9, table), *bench.kv, *bench.ops, bench.scratch,
                               bench.View(expected)));
  const std::vector<std::vector<const Decoder*>> placements = {
      {bench.decoder.get()}, {first.get(), second.get()}, {second.get(), first.get()}};
  for (const auto& holders : placements) {
    std::vector<float> rows = bench.Rows(9, 1);
    const kernels::Matrix hidden = bench.View(rows);
    ASSERT_OK_AND_ASSIGN(DecoderPass made,
                         bench.decoder->BeginPass(Bench::One(9, table), *bench.kv, *bench.ops));
    const DecoderPass pass = std::move(made);
    for (int32_t i = 0; i < All().last; ++i) {
      ASSERT_OK(bench.decoder->RunAttention(i, pass, *bench.ops, bench.scratch, hidden));
      if (bench.spec.layers[static_cast<size_t>(i)].ffn.is_moe()) {
        ASSERT_OK(RunInParts(i, pass, holders, bench, hidden));
      } else {
        ASSERT_OK(bench.decoder->RunFfn(i, pass, *bench.ops, bench.scratch, hidden));
      }
    }
    EXPECT_EQ(rows, expected) << holders.size();
  }
}

// Over a device that aborts where a captured step waits, copies or allocates.
TEST_P(MoeModelTest, DecodeStepsAreCapturedWholeWithTheSameBitsAndKeepTheChoice) {
  Bench& bench = *bench_;
  testing::TaggedDevice device;
  const auto ops = testing::MakeTaggedOps(&device, &bench.team);
  WeightTarget target;
  target.device = &device;
  ASSERT_OK_AND_ASSIGN(const auto decoder,
                       Decoder::Create(bench.spec, All(), Weights::On(bench.weights, target)));
  KvStorageOptions options;
  options.layers = All();
  options.pages = kPages;
  options.page_tokens = 8;
  ASSERT_OK_AND_ASSIGN(const auto kv, KvStorage::Create(&device, bench.spec, options));
  DecoderScratch scratch(&device);
  ASSERT_OK_AND_ASSIGN(const auto hidden,
                       device.Allocate(3 * bench.spec.hidden_size * sizeof(float)));

  const std::vector<int32_t> a = {5}, b = {1}, c = {7};
  for (int64_t step = 0; step < 4; ++step) {
    RowBatch batch;
    batch.sequences = {{0, 1, step, a}, {1, 1, step, b}, {2, 1, step, c}};
    std::vector<float> expected = bench.Rows(3, static_cast<int>(step)), found = expected;
    const size_t bytes = found.size() * sizeof(float);
    ASSERT_OK(device.CopyFromHost(found.data(), hidden.data(), bytes));
    ASSERT_OK(decoder->Run(All(), batch, *kv, *ops, scratch,
                           kernels::F32Matrix(hidden.f32(), 3, bench.spec.hidden_size)));
    ASSERT_OK(device.CopyToHost(hidden.data(), found.data(), bytes));
    ASSERT_OK_AND_ASSIGN(const auto by_layer, RunByLayer(batch, expected));
    EXPECT_EQ(found, expected) << step;
    std::vector<std::vector<int32_t>> kept;
    ASSERT_OK(scratch.choices().Take(
        [&](int32_t, absl::Span<const int32_t> offsets, absl::Span<const int32_t> experts) {
          EXPECT_EQ(offsets.size(), 4u);
          kept.emplace_back(experts.begin(), experts.end());
        }));
    EXPECT_EQ(kept, by_layer) << step;
  }
  EXPECT_EQ(device.captured_steps(), 4);
}

std::string NameOf(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, MoeModelTest, ::testing::ValuesIn(testing::MoeModels()), NameOf);

// The tiny model, whose second layer is of six experts, two a row.
class TinyMoeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(testing::WriteTinyWeights(testing::TinyMoeSpec(), folder_.path(), 5));
    ASSERT_OK_AND_ASSIGN(bench_, Bench::Open(folder_.path(), testing::TinyMoeSpec()));
    ASSERT_OK_AND_ASSIGN(
        pass_, bench_->decoder->BeginPass(Bench::One(kRows, table_), *bench_->kv, *bench_->ops));
  }

  absl::StatusOr<RoutedRows> Route(const GateSteering* steering) {
    std::vector<float> rows = bench_->Rows(kRows, 1);
    pass_.steering = steering;
    return bench_->decoder->Route(1, pass_, *bench_->ops, bench_->scratch, bench_->View(rows));
  }
  static std::vector<int32_t> OfRow(const RoutedRows& routed, size_t row) {
    return {routed.experts.begin() + routed.offsets[row],
            routed.experts.begin() + routed.offsets[row + 1]};
  }

  static constexpr int64_t kRows = 4;
  const std::vector<int32_t> table_ = {3};
  testing::TempFolder folder_;
  std::unique_ptr<Bench> bench_;
  DecoderPass pass_;
};

TEST_F(TinyMoeTest, SteeringChangesTheChoiceOfItsRowsAlone) {
  ASSERT_OK_AND_ASSIGN(const RoutedRows plain, Route(nullptr));
  const std::vector<int32_t> first = OfRow(plain, 0);
  ASSERT_EQ(first.size(), 2u);
  int32_t other = 0;
  while (other == first[0] || other == first[1]) ++other;

  GateSteering steering;
  steering.steering.assign(12, 0.0f);
  steering.steering[static_cast<size_t>(first[0])] = -kInfinity;
  steering.steering[6 + static_cast<size_t>(other)] = kInfinity;
  steering.row_steering = {0, -1, 1, -1};
  steering.row_k = {2, 2, 1, 2};
  ASSERT_OK_AND_ASSIGN(const RoutedRows steered, Route(&steering));
  EXPECT_THAT(OfRow(steered, 0), ::testing::Not(::testing::Contains(first[0])));
  EXPECT_EQ(OfRow(steered, 0).size(), 2u);
  EXPECT_EQ(OfRow(steered, 1), OfRow(plain, 1));
  EXPECT_EQ(OfRow(steered, 2), std::vector<int32_t>{other});
  EXPECT_EQ(OfRow(steered, 3), OfRow(plain, 3));
  EXPECT_EQ(steered.pairs(), 7);
}

TEST_F(TinyMoeTest, RunFollowsTheSteeringOfThePass) {
  GateSteering steering;
  steering.row_k.assign(kRows, 1);
  std::vector<float> plain = bench_->Rows(kRows, 1), steered = plain;
  ASSERT_OK(bench_->decoder->RunFfn(1, pass_, *bench_->ops, bench_->scratch, bench_->View(plain)));
  pass_.steering = &steering;
  ASSERT_OK(
      bench_->decoder->RunFfn(1, pass_, *bench_->ops, bench_->scratch, bench_->View(steered)));
  EXPECT_NE(steered, plain);
}

TEST_F(TinyMoeTest, NamesAChosenExpertThatIsNotHeld) {
  ASSERT_OK_AND_ASSIGN(const RoutedRows routed, Route(nullptr));
  FfnShard shard;
  for (int32_t expert = 0; expert < 6; ++expert) {
    if (expert != routed.experts[0]) shard.Add(1, expert);
  }
  ASSERT_OK_AND_ASSIGN(const auto decoder,
                       Decoder::Create(bench_->spec, {0, 2}, bench_->weights, shard));
  EXPECT_FALSE(decoder->Holds(1, routed.experts[0]));
  EXPECT_FALSE(decoder->Holds(0, 0));
  EXPECT_FALSE(decoder->Holds(1, 6));
  EXPECT_FALSE(decoder->Holds(1, -1));
  EXPECT_FALSE(decoder->HoldsAll(1));
  EXPECT_TRUE(bench_->decoder->HoldsAll(1));
  for (const int32_t layer : {-1, 0, 2}) EXPECT_FALSE(bench_->decoder->HoldsAll(layer));
  std::vector<float> rows = bench_->Rows(kRows, 1);
  const std::string name = "FFN expert " + std::to_string(routed.experts[0]);
  EXPECT_THAT(decoder->RunFfn(1, pass_, *bench_->ops, bench_->scratch, bench_->View(rows)),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("layer 1"), HasSubstr(name))));
}

TEST_F(TinyMoeTest, PartsOfALayerWithoutExpertsAreRefused) {
  std::vector<float> rows = bench_->Rows(kRows, 1);
  for (const int32_t layer : {0, 2, -1}) {
    EXPECT_THAT(
        bench_->decoder->Route(layer, pass_, *bench_->ops, bench_->scratch, bench_->View(rows)),
        StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(bench_->decoder->RunHeldExperts(layer, {}, *bench_->ops, bench_->scratch,
                                                bench_->View(rows)),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

// The checkpoint without the tensors whose names `drop` is part of.
absl::Status WriteWithout(const Weights& weights, const std::string& drop,
                          const std::string& folder) {
  std::map<std::string, TensorView> tensors;
  for (const std::string& name : weights.Names()) {
    if (name.find(drop) != std::string::npos) continue;
    CCOE_ASSIGN_OR_RETURN(tensors[name], weights.Raw(name));
  }
  return WriteSafetensors(folder + "/model.safetensors", tensors);
}

TEST_F(TinyMoeTest, OnlyHeldExpertsNeedToBeThere) {
  const testing::TempFolder folder;
  ASSERT_OK(WriteWithout(*bench_->weights, "experts.4.", folder.path()));
  ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(folder.path()));
  FfnShard shard;
  shard.Add(1, 3);
  ASSERT_OK_AND_ASSIGN(const auto decoder, Decoder::Create(bench_->spec, {0, 2}, weights, shard));
  EXPECT_TRUE(decoder->Holds(1, 3));
  EXPECT_FALSE(decoder->Holds(1, 4));
  EXPECT_THAT(Decoder::Create(bench_->spec, {0, 2}, weights),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("model.layers.1.mlp.experts.4.gate_proj.weight")));
  shard.Add(1, 6);
  EXPECT_THAT(Decoder::Create(bench_->spec, {0, 2}, weights, shard),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("6")));
}

// Resident bytes of the mapped files below `folder`.
int64_t ResidentBytesOf(const std::string& folder) {
  const std::string real = std::filesystem::canonical(folder).string();
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  bool ours = false;
  int64_t kilobytes = 0;
  while (std::getline(maps, line)) {
    if (line.find('-') < line.find(':')) ours = line.find(real) != std::string::npos;
    if (ours && line.rfind("Rss:", 0) == 0) kilobytes += std::atoll(line.c_str() + 4);
  }
  return 1024 * kilobytes;
}

TEST(DecoderFfnTest, ExpertsThatAreNotHeldAreNotRead) {
  RandomModelOptions options;
  options.hidden_size = 256;
  options.layers = 1;
  options.heads = 4;
  options.vocab_size = 64;
  options.experts = 8;
  options.expert_intermediate_size = 1024;
  constexpr int64_t kExpertBytes = 3 * 256 * 1024 * 2;
  constexpr int64_t kSlackBytes = 1 << 20;  // the header, and what the kernel maps around a page
  const testing::TempFolder folder;
  ThreadTeam team(2);
  ASSERT_OK(WriteRandomModel(options, folder.path(), team));
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, RandomModelSpec(options));
  ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(folder.path()));
  FfnShard shard;
  shard.Add(0, 3);
  ASSERT_OK_AND_ASSIGN(const auto decoder, Decoder::Create(spec, {0, 1}, weights, shard));
  EXPECT_LT(ResidentBytesOf(folder.path()), kSlackBytes);

  const auto ops = kernels::MakeCpuOps(&team);
  DecoderScratch scratch(&ops->device());
  std::vector<float> x(256, 0.5f), out(256);
  ASSERT_OK(decoder->RunHeldExperts(0,
                                    {kernels::F32Matrix(x.data(), 1, 256), {0}, {3}, {1.0f}, {0}},
                                    *ops, scratch, kernels::F32Matrix(out.data(), 1, 256)));
  const int64_t resident = ResidentBytesOf(folder.path());
  EXPECT_GE(resident, kExpertBytes);
  EXPECT_LT(resident, kExpertBytes + kSlackBytes);
}

}  // namespace
}  // namespace ccoe::model
