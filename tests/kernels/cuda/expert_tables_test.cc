// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/expert_tables.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

using ::ccoe::testing::StatusIs;

// Matrices that nothing reads: a table holds addresses.
std::vector<ExpertMatrices> Experts(int64_t count, uintptr_t address, DType dtype) {
  std::vector<ExpertMatrices> experts;
  for (int64_t e = 0; e < count; ++e) {
    const auto matrix = [&](int64_t rows, int64_t cols) {
      address += 4096;
      return ConstMatrix{reinterpret_cast<const void*>(address), dtype, rows, cols, cols};
    };
    experts.push_back({matrix(32, 64), matrix(32, 64), matrix(64, 32)});
  }
  return experts;
}

class ExpertTablesTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_OK_AND_ASSIGN(stream_, Stream::Create(CudaOptions()));
    ASSERT_OK_AND_ASSIGN(tables_, ExpertTables::Create(stream_.get()));
  }

  void ExpectHolds(const ExpertTable* table, const std::vector<ExpertMatrices>& experts) {
    ASSERT_NE(table, nullptr);
    const auto fetch = [&](const MatmulPart* from) {
      std::vector<MatmulPart> parts(experts.size());
      EXPECT_OK(
          CudaDeviceUnderTest()->CopyToHost(from, parts.data(), parts.size() * sizeof(MatmulPart)));
      return parts;
    };
    const std::vector<MatmulPart> gated = fetch(table->gated), up = fetch(table->up),
                                  down = fetch(table->down);
    for (size_t e = 0; e < experts.size(); ++e) {
      EXPECT_EQ(gated[e].weight, experts[e].gate.data);
      EXPECT_EQ(gated[e].up, experts[e].up.data);
      EXPECT_EQ(up[e].weight, experts[e].up.data);
      EXPECT_EQ(down[e].weight, experts[e].down.data);
      EXPECT_EQ(down[e].cols, 64);
      EXPECT_EQ(gated[e].out, nullptr);
    }
  }

  std::unique_ptr<Stream> stream_;
  std::unique_ptr<ExpertTables> tables_;
};

TEST_F(ExpertTablesTest, ALayersTableIsMadeOnce) {
  const auto a = Experts(5, 0x10000, DType::kBF16), b = Experts(3, 0x900000, DType::kF32);
  const ExpertTable* const table = tables_->Find(a);
  ExpectHolds(table, a);
  EXPECT_TRUE(table->fast.inner && table->fast.down);
  const MatmulPart* const memory = table->gated;
  const ExpertTable* const other = tables_->Find(b);
  ExpectHolds(other, b);
  EXPECT_FALSE(other->fast.inner || other->fast.down);
  EXPECT_EQ(tables_->Find(a)->gated, memory);
}

TEST_F(ExpertTablesTest, OtherWeightsInTheMemoryOfFreedOnesGetATableOfTheirOwn) {
  const auto first = Experts(4, 0x10000, DType::kBF16);
  auto second = first;
  second[3].down.stride = 40;
  ExpectHolds(tables_->Find(first), first);
  ExpectHolds(tables_->Find(second), second);
  ExpectHolds(tables_->Find(Experts(6, 0x10000, DType::kBF16)), Experts(6, 0x10000, DType::kBF16));
}

TEST_F(ExpertTablesTest, MoreLayersThanThereIsRoomForAreMadeAgain) {
  const auto bytes = static_cast<int64_t>(10 * 3 * sizeof(MatmulPart));
  ASSERT_OK_AND_ASSIGN(const auto small, ExpertTables::Create(stream_.get(), bytes));
  for (uintptr_t layer = 0; layer < 25; ++layer) {
    const auto experts = Experts(3, 0x100000 * (layer % 7 + 1), DType::kBF16);
    ExpectHolds(small->Find(experts), experts);
  }
  EXPECT_EQ(small->Find(Experts(11, 0x10000, DType::kBF16)), nullptr);
  EXPECT_THAT(stream_->Synchronize(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_NE(small->Find(Experts(10, 0x10000, DType::kBF16)), nullptr);
}

TEST_F(ExpertTablesTest, ANewLayerWithinACaptureIsRefusedAndTheStepRunsPlainly) {
  const auto experts = Experts(2, 0x10000, DType::kBF16);
  int calls = 0, found = 0;
  const auto step = [&](bool look) {
    stream_->RunCaptured(1, [&, look] {
      ++calls;
      if (look && tables_->Find(experts) != nullptr) ++found;
    });
  };
  step(false);  // plain
  step(true);   // captured, refused, plain
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(found, 1);
  EXPECT_OK(stream_->Synchronize());
}

}  // namespace
}  // namespace ccoe::kernels
