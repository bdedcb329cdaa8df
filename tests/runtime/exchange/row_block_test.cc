// SPDX-License-Identifier: Apache-2.0

#include "runtime/exchange/row_block.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/parallel.h"
#include "tests/testing/device_rows.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(RowBlockTest, OwnedHostValuesGetTheirWidthFromWhoeverReadsThem) {
  RowBlock block(std::vector<float>{1, 2, 3, 4, 5, 6});
  const RowBlock copy = block;
  block = RowBlock();
  EXPECT_FALSE(copy.on_device());
  EXPECT_EQ(copy.values(), 6);
  EXPECT_EQ(copy.bytes(), 24u);
  EXPECT_THAT(copy.host(), ElementsAre(1, 2, 3, 4, 5, 6));
  const kernels::ConstMatrix rows = copy.Rows(2);
  EXPECT_EQ(rows.rows, 3);
  EXPECT_EQ(static_cast<const float*>(rows.Row(2))[1], 6);
}

TEST(RowBlockTest, NoRowsAreEmptyHoweverTheyCame) {
  EXPECT_TRUE(RowBlock().empty());
  EXPECT_TRUE(RowBlock(std::vector<float>()).empty());
  EXPECT_EQ(RowBlock().Rows(4).rows, 0);
}

TEST(RowBlockTest, BorrowedRowsKeepTheirStride) {
  const std::vector<float> padded(8);
  const RowBlock block(kernels::ConstMatrix{padded.data(), kernels::DType::kF32, 2, 3, 4});
  EXPECT_EQ(block.view().stride, 4);
  EXPECT_EQ(block.values(), 6);
}

TEST(RowBlockTest, RowsOfADeviceKeepTheirMemoryAliveAndGiveItBack) {
  testing::TaggedDevice device(4096);
  RowBlock block;
  {
    ASSERT_OK_AND_ASSIGN(const auto memory, RowMemory::Create(&device, 4096));
    ASSERT_OK_AND_ASSIGN(RowMemory::Fresh fresh, memory->Take(2, 3, kernels::DType::kBF16));
    block = std::move(fresh.block);
    EXPECT_EQ(block.memory(), memory.get());
  }
  EXPECT_TRUE(block.on_device());
  EXPECT_EQ(block.bytes(), 12u);
  EXPECT_EQ(block.memory()->device(), &device);
  EXPECT_EQ(device.FreeBytes(), 0);
  block = RowBlock();
  EXPECT_EQ(device.FreeBytes(), 4096);
}

constexpr size_t kBytes = 64 << 10;

class RowMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(memory_, RowMemory::Create(&device_, kBytes)); }

  testing::TaggedDevice device_;
  std::shared_ptr<RowMemory> memory_;
};

TEST_F(RowMemoryTest, BlocksDoNotOverlapAndLieWithinThePiece) {
  std::vector<RowMemory::Fresh> taken;
  while (true) {
    auto fresh = memory_->Take(3, 100, kernels::DType::kF32);
    if (!fresh.ok()) break;
    taken.push_back(*std::move(fresh));
  }
  EXPECT_EQ(taken.size(), kBytes / 1536);  // 1200 bytes, rounded up to 512s
  for (size_t i = 0; i < taken.size(); ++i) {
    const auto begin = reinterpret_cast<uintptr_t>(taken[i].rows.data);
    EXPECT_EQ(begin, reinterpret_cast<uintptr_t>(memory_->data()) + 1536 * i);
    EXPECT_EQ(taken[i].block.view().data, taken[i].rows.data);
  }
}

TEST_F(RowMemoryTest, ARequestThatDoesNotFitIsRefusedAtOnceWithTheSizes) {
  ASSERT_OK_AND_ASSIGN(const auto fresh, memory_->Take(1, 1, kernels::DType::kF32));
  EXPECT_THAT(memory_->Take(64, 512, kernels::DType::kBF16).status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("no 65536 bytes are left together of the 65536")));
}

TEST_F(RowMemoryTest, WhatComesBackJoinsItsNeighbours) {
  std::mt19937 random(3);
  std::vector<RowBlock> held;
  for (int round = 0; round < 2000; ++round) {
    if (random() % 2 == 0 || held.empty()) {
      auto fresh = memory_->Take(1 + random() % 8, 1 + random() % 300, kernels::DType::kBF16);
      if (fresh.ok()) held.push_back(std::move(fresh->block));
    } else {
      std::swap(held[random() % held.size()], held.back());
      held.pop_back();
    }
  }
  held.clear();
  EXPECT_EQ(memory_->free_bytes(), kBytes);
  EXPECT_OK(memory_->Take(64, 512, kernels::DType::kBF16).status());
}

TEST_F(RowMemoryTest, ManyThreadsTakeAndGiveBack) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 500; ++i) {
        auto first = memory_->Take(1, 64 + i % 64, kernels::DType::kF32);
        auto second = memory_->Take(2, 64, kernels::DType::kF32);
        EXPECT_OK(first.status());
        EXPECT_OK(second.status());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(memory_->free_bytes(), kBytes);
}

TEST(RowMemoryOfADeviceTest, ADeviceWithoutSoMuchMemorySaysSo) {
  testing::TaggedDevice device(1000);
  EXPECT_THAT(RowMemory::Create(&device, 2000).status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

constexpr kernels::DType kF32 = kernels::DType::kF32;
constexpr kernels::DType kBF16 = kernels::DType::kBF16;

TEST(RowCodecTest, RoundsToTheNearestBF16AndTiesToEven) {
  EXPECT_EQ(ToBF16(1.0f), 0x3f80);
  EXPECT_EQ(ToBF16(-2.0f), 0xc000);
  EXPECT_EQ(ToBF16(1.0f + 1.0f / 256), 0x3f80);  // half way: down to the even one
  EXPECT_EQ(ToBF16(1.0f + 3.0f / 256), 0x3f82);  // half way: up to the even one
  EXPECT_EQ(ToBF16(1.0f + 1.0f / 256 + 1e-6f), 0x3f81);
  EXPECT_EQ(ToBF16(0.0f), 0x0000);
  EXPECT_EQ(ToBF16(-0.0f), 0x8000);
}

TEST(RowCodecTest, KeepsInfinitiesAndNaNs) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(FromBF16(ToBF16(infinity)), infinity);
  EXPECT_EQ(FromBF16(ToBF16(-infinity)), -infinity);
  EXPECT_EQ(FromBF16(ToBF16(std::numeric_limits<float>::max())), infinity);
  EXPECT_TRUE(std::isnan(FromBF16(ToBF16(std::numeric_limits<float>::quiet_NaN()))));
  float payload;
  const uint32_t bits = 0x7f800001;  // a NaN whose payload lies wholly in the bits that are cut
  std::memcpy(&payload, &bits, sizeof(payload));
  EXPECT_TRUE(std::isnan(FromBF16(ToBF16(payload))));
}

TEST(RowCodecTest, EveryBF16SurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = FromBF16(static_cast<uint16_t>(bits));
    if (!std::isnan(value)) {
      ASSERT_EQ(ToBF16(value), bits);
    }
  }
}

TEST(RowCodecTest, F32TravelsBitForBitAndLittleEndian) {
  const std::vector<float> values = {1.0f, -0.0f, 3.14159f, 1e-42f, 5.0f, -7.5f};
  std::string bytes;
  EncodeRows(kernels::F32Matrix(values.data(), 2, 3), kF32, bytes);
  ASSERT_EQ(bytes.size(), 24);
  EXPECT_EQ(bytes.substr(0, 4), std::string("\x00\x00\x80\x3f", 4));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> back, DecodeRows(bytes, 2, 3, kF32));
  EXPECT_EQ(std::memcmp(back.data(), values.data(), 24), 0);
}

TEST(RowCodecTest, ReadsRowsOfAnyStride) {
  const std::vector<float> values = {1, 2, 99, 3, 4, 99};
  std::string bytes;
  EncodeRows({values.data(), kF32, 2, 2, 3}, kBF16, bytes);
  ASSERT_EQ(bytes.size(), 8);
  EXPECT_EQ(bytes.substr(0, 2), std::string("\x80\x3f", 2));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> back, DecodeRows(bytes, 2, 2, kBF16));
  EXPECT_THAT(back, ElementsAre(1, 2, 3, 4));
}

TEST(RowCodecTest, GathersTheRowsItIsToldInThatOrder) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  for (const kernels::DType wire : {kF32, kBF16}) {
    std::string bytes;
    EncodeRows(kernels::F32Matrix(values.data(), 3, 2), wire, bytes, {2, 0, 2});
    ASSERT_OK_AND_ASSIGN(const std::vector<float> back, DecodeRows(bytes, 3, 2, wire));
    EXPECT_THAT(back, ElementsAre(5, 6, 1, 2, 5, 6));
  }
}

// As the scalar code was before loops became vector code.
uint16_t Scalar(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

TEST(RowCodecTest, WholeRowsHaveTheBitsOfTheirElements) {
  // Every pattern of the upper half with lower halves around the half way, in rows of an odd width.
  std::vector<float> values;
  for (uint32_t upper = 0; upper < 0x10000; ++upper) {
    for (const uint32_t lower : {0x0000u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const uint32_t bits = upper << 16 | lower;
      values.emplace_back();
      std::memcpy(&values.back(), &bits, sizeof(bits));
    }
  }
  std::string bytes;
  EncodeRows(kernels::F32Matrix(static_cast<const float*>(values.data()), values.size() / 5, 5),
             kBF16, bytes);
  ASSERT_EQ(bytes.size(), values.size() * 2);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> back,
                       DecodeRows(bytes, values.size() / 5, 5, kBF16));
  std::vector<float> rounded = values;
  RoundToWire(kBF16, absl::MakeSpan(rounded));
  EXPECT_EQ(std::memcmp(rounded.data(), back.data(), back.size() * sizeof(float)), 0);
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t narrow;
    std::memcpy(&narrow, bytes.data() + i * sizeof(narrow), sizeof(narrow));
    ASSERT_EQ(narrow, Scalar(values[i])) << i;
    ASSERT_EQ(narrow, ToBF16(values[i])) << i;
  }
}

TEST(RowCodecTest, NoRowsAreNoBytes) {
  std::string bytes = "old";
  EncodeRows(kernels::F32Matrix(static_cast<const float*>(nullptr), 0, 8), kF32, bytes);
  EXPECT_THAT(bytes, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const std::vector<float> back, DecodeRows("", 0, 8, kF32));
  EXPECT_THAT(back, IsEmpty());
}

TEST(RowCodecTest, RefusesAnotherByteCountThanTheShapeNeeds) {
  EXPECT_THAT(DecodeRows("1234567", 2, 1, kF32),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected 8 bytes (2 rows of 1 f32), found 7")));
  EXPECT_THAT(DecodeRows("1234", 1, 2, kernels::DType::kF16),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found f16")));
}

TEST(RowCodecTest, RoundToWireEqualsATripOverTheWire) {
  std::vector<float> values = {0.1f, -3.3f, 1e30f, 7.0f};
  std::string bytes;
  EncodeRows(kernels::F32Matrix(static_cast<const float*>(values.data()), 1, 4), kBF16, bytes);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> travelled, DecodeRows(bytes, 1, 4, kBF16));
  std::vector<float> rounded = values;
  RoundToWire(kBF16, absl::MakeSpan(rounded));
  EXPECT_EQ(rounded, travelled);
  rounded = values;
  RoundToWire(kF32, absl::MakeSpan(rounded));
  EXPECT_EQ(rounded, values);
}

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
