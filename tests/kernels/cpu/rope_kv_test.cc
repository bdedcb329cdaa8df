// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/rope_kv.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

struct Fixture {
  std::vector<float> q = {1, 2}, k = {3, 4}, v = {5, 6}, cos = {1}, sin = {0};
  std::vector<float> keys = std::vector<float>(8, -1.0f), values = std::vector<float>(8, -1.0f);
  std::vector<int64_t> slots = {2};

  RopeAndAppendKvArgs Args() {
    RopeAndAppendKvArgs args;
    args.q = F32Matrix(q.data(), 1, 2);
    args.k = F32Matrix(k.data(), 1, 2);
    args.v = F32Matrix(v.data(), 1, 2);
    args.cos = F32Matrix(cos.data(), 1, 1);
    args.sin = F32Matrix(sin.data(), 1, 1);
    args.slots = slots;
    args.cache = {keys.data(), values.data(), DType::kF32, 2, 2, 1, 2};
    return args;
  }
};

TEST(CpuRopeAnglesTest, AreTheLibrarysCosinesOfAnglesInF32) {
  ThreadTeam team(2);
  const std::vector<int64_t> positions = {3, 0, 100001};
  const std::vector<float> frequencies = {1.0f, 0.1f};
  std::vector<float> cos(6), sin(6);
  CpuRopeAngles(&team, {positions, frequencies, 1.25f, F32Matrix(cos.data(), 3, 2),
                        F32Matrix(sin.data(), 3, 2)});
  for (size_t i = 0; i < 6; ++i) {
    const float angle = static_cast<float>(positions[i / 2]) * frequencies[i % 2];
    EXPECT_EQ(cos[i], 1.25f * static_cast<float>(std::cos(static_cast<double>(angle))));
    EXPECT_EQ(sin[i], 1.25f * static_cast<float>(std::sin(static_cast<double>(angle))));
  }
}

TEST(CpuRopeAndAppendKvTest, WritesItsSlotAndNoOther) {
  ThreadTeam team(1);
  Fixture f;
  CpuRopeAndAppendKv(&team, f.Args());
  EXPECT_EQ(f.keys, (std::vector<float>{-1, -1, -1, -1, 3, 4, -1, -1}));
  EXPECT_EQ(f.values, (std::vector<float>{-1, -1, -1, -1, 5, 6, -1, -1}));
}

TEST(CpuRopeAndAppendKvTest, WritesKeysAloneWhereTheyAreTheValuesToo) {
  ThreadTeam team(1);
  Fixture f;
  RopeAndAppendKvArgs args = f.Args();
  args.v = {};
  args.cache.v = args.cache.k;
  CpuRopeAndAppendKv(&team, args);
  EXPECT_EQ(f.keys, (std::vector<float>{-1, -1, -1, -1, 3, 4, -1, -1}));
}

TEST(CpuRopeAndAppendKvDeathTest, ValuesForACacheWithoutAnyAbort) {
  ThreadTeam team(1);
  Fixture f;
  RopeAndAppendKvArgs args = f.Args();
  args.cache.v = args.cache.k;
  EXPECT_DEATH(CpuRopeAndAppendKv(&team, args), "args.v.empty");
}

TEST(CpuRopeAndAppendKvDeathTest, ASlotOutsideTheCacheAborts) {
  ThreadTeam team(1);
  Fixture f;
  f.slots = {4};
  EXPECT_DEATH(CpuRopeAndAppendKv(&team, f.Args()), "slot < cache.pages");
}

}  // namespace
}  // namespace ccoe::kernels
