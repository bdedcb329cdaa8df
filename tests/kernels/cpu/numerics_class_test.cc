// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/numerics_class.h"

#include <gnu/libc-version.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "hwy/targets.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/numerics_class.h"

namespace ccoe::kernels {
namespace {

class CpuNumericsClassTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  static std::string TargetName() { return absl::AsciiStrToLower(hwy::TargetName(GetParam())); }
};

TEST_P(CpuNumericsClassTest, NamesTheInstructionSetThatTheKernelsRunWith) {
  ThreadTeam one(1), two(2);
  const std::string expected =
      absl::StrCat("cpu/", TargetName(), "/k1/f32/glibc-", gnu_get_libc_version());
  EXPECT_EQ(MakeCpuOps(&one)->NumericsClass(), expected);
  EXPECT_EQ(MakeCpuOps(&two)->NumericsClass(), expected);
  EXPECT_EQ(NumericsClassOf(*MakeCpuOps(&one), DType::kF32), expected + "/kv-f32");
}

// Values without a pattern that sums could hide in.
std::vector<float> Values(size_t count, uint32_t seed) {
  std::vector<float> values(count);
  uint32_t state = seed;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 16777216.0f - 0.5f;
  }
  return values;
}

class BitsOfOps {
 public:
  BitsOfOps() : team_(2), ops_(MakeCpuOps(&team_)) {}

  uint64_t Hash() {
    HashLinear();
    HashNorm();
    HashActivations();
    HashAttention();
    return hash_;
  }

 private:
  static constexpr int64_t kRows = 5, kIn = 203, kOut = 67;

  void Add(const std::vector<float>& values) {
    for (float value : values) {
      uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof(bits));
      for (int i = 0; i < 4; ++i) hash_ = (hash_ ^ (bits >> 8 * i & 0xff)) * 0x100000001b3u;  // FNV
    }
  }

  void HashLinear() {
    const std::vector<float> x = Values(kRows * kIn, 1), weight = Values(kOut * kIn, 2);
    std::vector<uint16_t> rounded(weight.size());
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      ConstMatrix w = F32Matrix(weight.data(), kOut, kIn);
      if (dtype != DType::kF32) {
        const Matrix to{rounded.data(), dtype, kOut, kIn, kIn};
        std::vector<int32_t> rows(kOut);
        for (int32_t i = 0; i < kOut; ++i) rows[static_cast<size_t>(i)] = i;
        ops_->GatherRows(w, rows, to);
        w = to;
      }
      std::vector<float> out(kRows * kOut);
      const LinearPart part[] = {{w, {}, F32Matrix(out.data(), kRows, kOut), false}};
      ops_->Linear(F32Matrix(x.data(), kRows, kIn), part);
      Add(out);
    }
  }

  void HashNorm() {
    const std::vector<float> x = Values(kRows * kIn, 3), weight = Values(kIn, 4);
    std::vector<float> out(x.size());
    ops_->RmsNorm(F32Matrix(x.data(), kRows, kIn), F32Matrix(weight.data(), 1, kIn), 1e-6f,
                  F32Matrix(out.data(), kRows, kIn));
    Add(out);
  }

  void HashActivations() {
    const std::vector<float> gate = Values(kRows * kIn, 5), up = Values(kRows * kIn, 6);
    for (Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
      std::vector<float> out(gate.size());
      ops_->GatedActivation(activation, F32Matrix(gate.data(), kRows, kIn),
                            F32Matrix(up.data(), kRows, kIn), F32Matrix(out.data(), kRows, kIn));
      Add(out);
    }
  }

  // Two chunks of context.
  void HashAttention() {
    constexpr int64_t kTokens = 300, kHeads = 4, kDim = 20;
    std::vector<float> k = Values(kTokens * kDim, 7), v = Values(kTokens * kDim, 8);
    const std::vector<float> q = Values(3 * kHeads * kDim, 9);
    std::vector<float> out(q.size());
    const int32_t table[] = {0};
    const SequenceRows sequence[] = {{0, 3, kTokens - 3, table}};
    PagedAttentionArgs args;
    args.q = F32Matrix(q.data(), 3, kHeads * kDim);
    args.heads = kHeads;
    args.cache = {k.data(), v.data(), DType::kF32, 1, kTokens, 1, kDim};
    args.sequences = sequence;
    args.scale = 0.25f;
    args.out = F32Matrix(out.data(), 3, kHeads * kDim);
    ops_->PagedAttention(args);
    Add(out);
  }

  ThreadTeam team_;
  const std::unique_ptr<Ops> ops_;
  uint64_t hash_ = 0xcbf29ce484222325u;
};

// Whoever changes a bit raises kCpuKernelSet and writes the new sums here; else two releases of one
// class would give one query different tokens.
TEST_P(CpuNumericsClassTest, AKernelSetHasOneSetOfBits) {
  const std::map<std::string, uint64_t> known = {{"avx2", 16730711949391045199u},
                                                 {"sse4", 17957657901530625685u},
                                                 {"ssse3", 17957657901530625685u},
                                                 {"scalar", 16103688042021504334u}};
  const auto found = known.find(TargetName());
  if (found == known.end()) GTEST_SKIP() << "no sum is known for " << TargetName();
  EXPECT_EQ(BitsOfOps().Hash(), found->second) << TargetName();
}

INSTANTIATE_TEST_SUITE_P(Targets, CpuNumericsClassTest,
                         ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const ::testing::TestParamInfo<int64_t>& info) {
                           return std::string(hwy::TargetName(info.param));
                         });

}  // namespace
}  // namespace ccoe::kernels
