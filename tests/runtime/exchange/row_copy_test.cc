#include "runtime/exchange/row_copy.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "runtime/base/parallel.h"
#include "runtime/exchange/row_codec.h"
#include "runtime/exchange/row_memory.h"
#include "tests/testing/device_rows.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

// What lets a device's rows take the place of a message's without moving a bit.
TEST(RowCopyTest, ADeviceRoundsToTheWireAsTheCodecDoes) {
  testing::TaggedDevice device;
  ThreadTeam team(1);
  const auto ops = testing::MakeTaggedOps(&device, &team);
  ASSERT_OK_AND_ASSIGN(const auto memory, RowMemory::Create(&device, 1 << 20));
  std::mt19937 random(7);
  std::uniform_real_distribution<float> exponent(-40, 38);
  std::vector<float> values = {0.0f,
                               -0.0f,
                               std::numeric_limits<float>::max(),
                               std::numeric_limits<float>::denorm_min(),
                               std::numeric_limits<float>::infinity(),
                               1.00390625f};
  while (values.size() < 6 * 1024) {
    values.push_back((random() % 2 == 0 ? 1.0f : -1.0f) * std::pow(10.0f, exponent(random)));
  }
  const RowBlock exact =
      testing::ToDevice(*memory, kernels::F32Matrix(values.data(), 6, 1024), kernels::DType::kF32);
  for (const kernels::DType wire : {kernels::DType::kF32, kernels::DType::kBF16}) {
    ASSERT_OK_AND_ASSIGN(const auto sent, memory->Take(6, 1024, wire));
    ASSERT_OK_AND_ASSIGN(const auto read, memory->Take(6, 1024, kernels::DType::kF32));
    CopyRows(*ops, exact.view(), sent.rows);
    CopyRows(*ops, sent.block.view(), read.rows);
    std::vector<float> expected = values;
    RoundToWire(wire, absl::MakeSpan(expected));
    EXPECT_EQ(testing::HostValues(read.block), expected);
  }
}

}  // namespace
}  // namespace ccoe::exchange
