// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/kv_cache.h"

#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::StatusIs;

TEST(KvPagesTest, TakesFreshPagesFromZeroUpAndOnlyAsManyAsNeeded) {
  KvPages pages(8, 4);
  BlockTable table;
  ASSERT_OK(pages.Grow(1, table));
  EXPECT_THAT(table, ElementsAre(0));
  ASSERT_OK(pages.Grow(4, table));
  EXPECT_THAT(table, ElementsAre(0));
  ASSERT_OK(pages.Grow(9, table));
  EXPECT_THAT(table, ElementsAre(0, 1, 2));
  ASSERT_OK(pages.Grow(2, table));
  EXPECT_THAT(table, ElementsAre(0, 1, 2));
  EXPECT_EQ(pages.used_pages(), 3);
}

TEST(KvPagesTest, ChangesNothingWhenTooFewPagesAreFree) {
  KvPages pages(3, 4);
  BlockTable first, second;
  ASSERT_OK(pages.Grow(8, first));
  EXPECT_FALSE(pages.CanGrow(5, second));
  EXPECT_THAT(pages.Grow(5, second),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("5 tokens need 2 more pages of 4 tokens, 1 of 3 are free")));
  EXPECT_THAT(second, IsEmpty());
  EXPECT_EQ(pages.free_pages(), 1);
  EXPECT_TRUE(pages.CanGrow(4, second));
  EXPECT_OK(pages.Grow(4, second));
}

TEST(KvPagesTest, ShrinkKeepsThePageThatHoldsTheLastToken) {
  KvPages pages(4, 4);
  BlockTable table;
  ASSERT_OK(pages.Grow(16, table));
  pages.Shrink(5, table);
  EXPECT_THAT(table, ElementsAre(0, 1));
  pages.Shrink(4, table);
  EXPECT_THAT(table, ElementsAre(0));
  pages.Free(table);
  EXPECT_THAT(table, IsEmpty());
  EXPECT_EQ(pages.free_pages(), 4);
}

TEST(KvPagesTest, NeverGivesAPageToTwoTables) {
  KvPages pages(64, 3);
  std::mt19937 random(7);
  std::vector<BlockTable> tables(10);
  for (int step = 0; step < 2000; ++step) {
    BlockTable& table = tables[random() % tables.size()];
    if (random() % 2 == 0) {
      pages.Grow(random() % 60, table).IgnoreError();
    } else {
      pages.Shrink(random() % 60, table);
    }
    std::set<int32_t> seen;
    int64_t held = 0;
    for (const BlockTable& each : tables) {
      seen.insert(each.begin(), each.end());
      held += static_cast<int64_t>(each.size());
    }
    ASSERT_EQ(static_cast<int64_t>(seen.size()), held);
    ASSERT_EQ(pages.used_pages(), held);
  }
}

TEST(KvPagesTest, AnEmptyPoolHoldsNothing) {
  KvPages pages(0, 16);
  BlockTable table;
  EXPECT_OK(pages.Grow(0, table));
  EXPECT_THAT(pages.Grow(1, table), StatusIs(absl::StatusCode::kResourceExhausted));
}

KvStorageOptions Options(LayerRange layers, int64_t pages, int64_t page_tokens) {
  KvStorageOptions options;
  options.layers = layers;
  options.pages = pages;
  options.page_tokens = page_tokens;
  return options;
}

TEST(KvStorageTest, LayersLieApartAlignedAndReadAsZero) {
  const ModelSpec spec = testing::TinySpec();
  ASSERT_OK_AND_ASSIGN(auto kv,
                       KvStorage::Create(&kernels::CpuDevice(), spec, Options({0, 2}, 3, 5)));
  const size_t part = 3 * 5 * 2 * 8 * sizeof(float);
  for (const int32_t layer : {0, 1}) {
    const kernels::KvLayer view = kv->Layer(layer);
    EXPECT_EQ(view.pages, 3);
    EXPECT_EQ(view.page_tokens, 5);
    EXPECT_EQ(view.kv_heads, 2);
    EXPECT_EQ(view.head_dim, 8);
    for (void* data : {view.k, view.v}) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
      for (size_t i = 0; i < part; ++i) ASSERT_EQ(static_cast<const char*>(data)[i], 0);
      std::memset(data, 1 + layer, part);  // would show as not zero in a part that overlaps
    }
  }
}

TEST(KvStorageTest, LayersAreNumberedAsInTheModel) {
  const ModelSpec spec = testing::TinySpec();
  ASSERT_OK_AND_ASSIGN(auto kv,
                       KvStorage::Create(&kernels::CpuDevice(), spec, Options({1, 2}, 3, 5)));
  EXPECT_EQ(kv->layers(), (LayerRange{1, 2}));
  EXPECT_NE(kv->Layer(1).k, nullptr);
}

TEST(KvStorageTest, BytesPerTokenCountsKAndVOfTheLayers) {
  const ModelSpec spec = testing::TinySpec();
  EXPECT_EQ(KvStorage::BytesPerToken(spec, {0, 1}), 2 * 2 * 8 * 4);
  EXPECT_EQ(KvStorage::BytesPerToken(spec, {0, 2}), 2 * 2 * 2 * 8 * 4);
}

TEST(KvStorageTest, LatentAttentionKeepsOneCopyForKAndV) {
  const ModelSpec spec = testing::TinyLatentSpec();
  EXPECT_EQ(KvStorage::BytesPerToken(spec, {0, 2}), 2 * 16 * 4);
  ASSERT_OK_AND_ASSIGN(auto kv,
                       KvStorage::Create(&kernels::CpuDevice(), spec, Options({0, 2}, 3, 5)));
  const size_t part = 3 * 5 * 16 * sizeof(float);
  for (const int32_t layer : {0, 1}) {
    const kernels::KvLayer view = kv->Layer(layer);
    EXPECT_EQ(view.v, view.k);
    EXPECT_EQ(view.kv_heads, 1);
    EXPECT_EQ(view.head_dim, 16);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.k) % 64, 0u);
    for (size_t i = 0; i < part; ++i) ASSERT_EQ(static_cast<const char*>(view.k)[i], 0);
    std::memset(view.k, 1 + layer, part);
  }
}

TEST(KvStorageTest, RefusesAbsurdSizesWithTheSumSpelledOut) {
  const ModelSpec spec = testing::TinySpec();
  kernels::Device* device = &kernels::CpuDevice();
  EXPECT_THAT(KvStorage::Create(device, spec, Options({0, 3}, 1, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(KvStorage::Create(device, spec, Options({1, 1}, 1, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(KvStorage::Create(device, spec, Options({0, 2}, 0, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(KvStorage::Create(device, spec, Options({0, 2}, 1, -1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(KvStorage::Create(device, spec, Options({0, 2}, INT64_MAX, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(KvStorage::Create(device, spec, Options({0, 2}, (int64_t{1} << 31) - 1, 1 << 20)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("2147483647 pages of 1048576 tokens"),
                             HasSubstr("256 bytes a token"))));
}

}  // namespace
}  // namespace ccoe::model
