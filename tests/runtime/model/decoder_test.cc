// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/decoder.h"

#include <vector>

#include "gmock/gmock.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

constexpr int64_t kHidden = 24;
constexpr int64_t kPages = 8;

class DecoderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(testing::WriteTinyWeights(spec_, folder_.path(), 5));
    ASSERT_OK_AND_ASSIGN(weights_, Weights::Open(folder_.path()));
    ASSERT_OK_AND_ASSIGN(decoder_, Decoder::Create(spec_, {0, 2}, weights_));
    KvStorageOptions options;
    options.layers = {0, 2};
    options.pages = kPages;
    options.page_tokens = 4;
    ASSERT_OK_AND_ASSIGN(kv_, KvStorage::Create(&ops_->device(), spec_, options));
  }

  // Rows that differ from each other and from seed to seed.
  static std::vector<float> Rows(int64_t rows, int seed) {
    std::vector<float> values(static_cast<size_t>(rows * kHidden));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] =
          static_cast<float>((i * 37 + static_cast<size_t>(seed) * 101) % 97) / 48.0f - 1.0f;
    }
    return values;
  }

  absl::Status Run(LayerRange range, const RowBatch& batch, std::vector<float>& hidden) {
    const auto rows = static_cast<int64_t>(hidden.size()) / kHidden;
    return decoder_->Run(range, batch, *kv_, *ops_, scratch_,
                         kernels::F32Matrix(hidden.data(), rows, kHidden));
  }

  // A batch of one sequence over the pages `table`.
  static RowBatch One(int64_t rows, int64_t position, absl::Span<const int32_t> table) {
    RowBatch batch;
    batch.sequences.push_back({0, rows, position, table});
    return batch;
  }

  ModelSpec spec_ = testing::TinySpec();
  testing::TempFolder folder_;
  ThreadTeam team_{2};
  std::unique_ptr<kernels::Ops> ops_ = kernels::MakeCpuOps(&team_);
  std::shared_ptr<const Weights> weights_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<KvStorage> kv_;
  DecoderScratch scratch_{&kernels::CpuDevice()};
};

TEST_F(DecoderTest, ASequenceGivesTheSameBitsAloneAndAmongOthers) {
  const std::vector<int32_t> a = {5, 0}, b = {1}, c = {7, 2};
  std::vector<float> alone = Rows(6, 1);
  ASSERT_OK(Run({0, 2}, One(6, 0, a), alone));

  std::vector<float> all = Rows(3, 2);
  for (const auto& part : {Rows(6, 1), Rows(8, 3)}) all.insert(all.end(), part.begin(), part.end());
  RowBatch batch;
  batch.sequences = {{0, 3, 0, b}, {3, 6, 0, a}, {9, 8, 0, c}};
  ASSERT_OK(Run({0, 2}, batch, all));
  EXPECT_EQ(std::vector<float>(all.begin() + 3 * kHidden, all.begin() + 9 * kHidden), alone);
}

TEST_F(DecoderTest, LayersOneByOneGiveTheSameBitsAsTogether) {
  const std::vector<int32_t> table = {3, 4};
  std::vector<float> together = Rows(5, 1), apart = together;
  ASSERT_OK(Run({0, 2}, One(5, 0, table), together));
  ASSERT_OK(Run({0, 1}, One(5, 0, table), apart));
  ASSERT_OK(Run({1, 2}, One(5, 0, table), apart));
  EXPECT_EQ(apart, together);
}

TEST_F(DecoderTest, TheObserverSeesEachLayersOutput) {
  const std::vector<int32_t> table = {3, 4};
  std::vector<float> hidden = Rows(5, 1), first = hidden;
  ASSERT_OK(Run({0, 1}, One(5, 0, table), first));
  std::vector<int32_t> seen;
  std::vector<float> at_zero;
  ASSERT_OK_AND_ASSIGN(const DecoderPass pass, decoder_->BeginPass(One(5, 0, table), *kv_, *ops_));
  ASSERT_OK(decoder_->RunLayers({0, 2}, pass, *ops_, scratch_,
                                kernels::F32Matrix(hidden.data(), 5, kHidden),
                                [&](int32_t layer, kernels::ConstMatrix) {
                                  seen.push_back(layer);
                                  if (layer == 0) at_zero = hidden;
                                }));
  EXPECT_EQ(seen, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(at_zero, first);
}

TEST_F(DecoderTest, AnEmptyBatchIsNothing) {
  std::vector<float> none;
  EXPECT_OK(Run({0, 2}, RowBatch{}, none));
}

TEST_F(DecoderTest, RefusesBatchesThatDoNotFit) {
  const std::vector<int32_t> table = {3, 4}, wild = {3, kPages}, negative = {-1, 0};
  std::vector<float> hidden = Rows(5, 1);
  const auto expect = [&](const RowBatch& batch, const char* message) {
    EXPECT_THAT(Run({0, 2}, batch, hidden),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  expect(One(5, 4, table), "block table: expected 3 pages for 9 tokens, found 2");
  expect(One(5, 0, wild), "block table: expected pages 0 to 7, found 8");
  expect(One(5, 0, negative), "found -1");
  expect(One(5, -1, table), "from position -1");
  expect(One(5, 125, table), "context of 128 tokens");
  expect(One(5, INT64_MAX, table), "context of 128 tokens");
  expect(One(4, 0, table), "expected [4, 24]");
  RowBatch gap;
  gap.sequences = {{0, 2, 0, table}, {3, 2, 0, table}};
  expect(gap, "sequence 1: expected first row 2, found 3");
  RowBatch empty;
  empty.sequences = {{0, 0, 0, table}, {0, 5, 0, table}};
  expect(empty, "sequence 0");
}

TEST_F(DecoderTest, RefusesLayersItDoesNotHave) {
  const std::vector<int32_t> table = {3, 4};
  std::vector<float> hidden = Rows(5, 1);
  EXPECT_THAT(Run({1, 3}, One(5, 0, table), hidden),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("[0, 2)"), HasSubstr("[1, 3)"))));
  EXPECT_THAT(Decoder::Create(spec_, {1, 3}, weights_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found [1, 3)")));
  EXPECT_THAT(Decoder::Create(spec_, {1, 1}, weights_),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(DecoderTest, CreateNamesAMissingLayer) {
  spec_.layers.push_back(spec_.layers[0]);
  EXPECT_THAT(
      Decoder::Create(spec_, {0, 3}, weights_),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("model.layers.2.input_layernorm.weight")));
}

}  // namespace
}  // namespace ccoe::model
