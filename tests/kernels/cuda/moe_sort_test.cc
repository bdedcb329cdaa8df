// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/moe_sort.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/stream.h"
#include "tests/kernels/cuda/cuda_under_test.h"

namespace ccoe::kernels {
namespace {

TEST(MaxTilesTest, AreEnoughHoweverPairsFall) {
  EXPECT_EQ(MaxTiles(1, 8, 16), 1);
  EXPECT_EQ(MaxTiles(16, 1, 16), 1);
  EXPECT_EQ(MaxTiles(17, 1, 16), 2);
  EXPECT_EQ(MaxTiles(17, 8, 16), 8);  // seven of one pair, one of ten
  EXPECT_EQ(MaxTiles(4, 256, 8), 4);
  EXPECT_EQ(MaxTiles(4096, 256, 32), 376);
}

struct Sorted {
  std::vector<int32_t> x_rows, out_rows;
  std::vector<float> weights;
  std::vector<MatmulTile> tiles;
};

// In order of expert, then row.
Sorted Expected(const std::vector<int32_t>& chosen, const std::vector<float>& weights,
                int32_t top_k, int32_t experts, int32_t tile_rows) {
  Sorted sorted;
  for (int32_t e = 0; e < experts; ++e) {
    const auto begin = static_cast<int32_t>(sorted.x_rows.size());
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (chosen[i] != e) continue;
      sorted.x_rows.push_back(static_cast<int32_t>(i) / top_k);
      sorted.out_rows.push_back(static_cast<int32_t>(i));
      sorted.weights.push_back(weights[i]);
    }
    const auto end = static_cast<int32_t>(sorted.x_rows.size());
    for (int32_t at = begin; at < end; at += tile_rows) {
      sorted.tiles.push_back({e, at, std::min(tile_rows, end - at)});
    }
  }
  return sorted;
}

class MoeSortTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_OK_AND_ASSIGN(stream_, Stream::Create(CudaOptions()));
  }

  template <class T>
  std::vector<T> Fetch(const T* device, int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    EXPECT_OK(CudaDeviceUnderTest()->CopyToHost(device, values.data(), values.size() * sizeof(T)));
    return values;
  }

  void Check(const std::vector<int32_t>& chosen, int32_t top_k, int32_t experts,
             int32_t tile_rows) {
    Device* const device = CudaDeviceUnderTest();
    const auto pairs = static_cast<int64_t>(chosen.size());
    const int64_t max_tiles = MaxTiles(pairs, experts, tile_rows);
    std::vector<float> weights;
    for (int64_t i = 0; i < pairs; ++i) weights.push_back(static_cast<float>(i) + 0.5f);
    // chosen, weights, x_rows, out_rows, pair_weights, tile_count, tiles
    ASSERT_OK_AND_ASSIGN(const Buffer memory,
                         device->Allocate((5 * pairs + 1) * 4 + max_tiles * sizeof(MatmulTile)));
    auto* words = static_cast<int32_t*>(memory.data());
    ASSERT_OK(device->CopyFromHost(chosen.data(), words, pairs * 4));
    ASSERT_OK(device->CopyFromHost(weights.data(), words + pairs, pairs * 4));
    SortPairsParams params;
    ClearParams(&params);
    params.chosen = words;
    params.weights = reinterpret_cast<const float*>(words + pairs);
    params.pairs = pairs;
    params.top_k = top_k;
    params.experts = experts;
    params.tile_rows = tile_rows;
    params.x_rows = words + 2 * pairs;
    params.out_rows = words + 3 * pairs;
    params.pair_weights = reinterpret_cast<float*>(words + 4 * pairs);
    params.tile_count = words + 5 * pairs;
    params.tiles = reinterpret_cast<MatmulTile*>(words + 5 * pairs + 1);
    CudaSortPairs(stream_.get(), params);
    ASSERT_OK(stream_->Synchronize());

    const Sorted expected = Expected(chosen, weights, top_k, experts, tile_rows);
    const auto used = static_cast<int64_t>(expected.x_rows.size());
    EXPECT_EQ(Fetch(params.x_rows, used), expected.x_rows);
    EXPECT_EQ(Fetch(params.out_rows, used), expected.out_rows);
    EXPECT_EQ(Fetch(params.pair_weights, used), expected.weights);
    ASSERT_EQ(Fetch(params.tile_count, 1)[0], static_cast<int32_t>(expected.tiles.size()));
    ASSERT_LE(static_cast<int64_t>(expected.tiles.size()), max_tiles);
    const std::vector<MatmulTile> tiles =
        Fetch(params.tiles, static_cast<int64_t>(expected.tiles.size()));
    for (size_t t = 0; t < tiles.size(); ++t) {
      EXPECT_EQ(tiles[t].group, expected.tiles[t].group) << t;
      EXPECT_EQ(tiles[t].row_begin, expected.tiles[t].row_begin) << t;
      EXPECT_EQ(tiles[t].row_count, expected.tiles[t].row_count) << t;
    }
  }

  std::unique_ptr<Stream> stream_;
};

TEST_F(MoeSortTest, PairsComeByExpertThenRowForAnyNumberOfThem) {
  for (const int32_t experts : {1, 3, 8, 257, 600}) {
    for (const int64_t rows : {1, 5, 64, 300}) {
      const int32_t top_k = std::min(experts, 4);
      std::vector<int32_t> chosen;
      for (int64_t row = 0; row < rows; ++row) {
        for (int32_t slot = 0; slot < top_k; ++slot) {
          const auto first = static_cast<int32_t>(row * row % (experts - top_k + 1));
          chosen.push_back(row % 3 == 1 && slot == top_k - 1 && slot > 0 ? -1 : first + slot);
        }
      }
      for (const int32_t tile_rows : {4, 16, 128}) Check(chosen, top_k, experts, tile_rows);
    }
  }
}

TEST_F(MoeSortTest, AllPairsOfOneExpertAndNoneAtAll) {
  Check(std::vector<int32_t>(1000, 5), 1, 9, 32);
  Check(std::vector<int32_t>(1000, 8), 1, 9, 32);
  Check(std::vector<int32_t>(10, -1), 2, 9, 32);
}

}  // namespace
}  // namespace ccoe::kernels
