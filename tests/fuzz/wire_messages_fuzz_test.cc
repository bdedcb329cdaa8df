// SPDX-License-Identifier: Apache-2.0
// Mutated messages of a link: whatever the bytes, a checked header or an error, and never a crash
// or a size that is not there. The mutations are drawn from a fixed seed.
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/exchange/grpc/wire_messages.h"
#include "tests/runtime/exchange/swap_recorder.h"

namespace ccoe::exchange {
namespace {

constexpr int kRounds = 20000;
constexpr int64_t kHidden = 4;

// 1 to 3 bytes flipped, replaced, cut out or put in; sometimes the rest cut off.
std::string Mutated(std::string bytes, std::mt19937& random) {
  for (uint32_t changes = 1 + random() % 3; changes > 0 && !bytes.empty(); --changes) {
    const size_t at = random() % bytes.size();
    switch (random() % 5) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
        break;
      case 1:
        bytes[at] = static_cast<char>(random());
        break;
      case 2:
        bytes.erase(at, 1 + random() % 3);
        break;
      case 3:
        bytes.insert(at, 1 + random() % 3, static_cast<char>(random()));
        break;
      default:
        if (random() % 5 == 0) bytes.resize(at);
    }
  }
  return bytes;
}

// A header that Validate took keeps its promises: all a handler indexes by is there.
void ExpectSound(const SwapHeader& header) {
  const SwapBytes bytes = SizeOf(header);
  EXPECT_GT(header.rows(), 0);
  EXPECT_GE(header.returned_rows(), 0);
  EXPECT_GT(bytes.sent, 0);
  EXPECT_GE(bytes.returned, 0);
  CheckFitsMessage(header).IgnoreError();
  if (header.ffn() == nullptr) return;
  const FfnSwap& ffn = *header.ffn();
  for (int64_t row = 0; row < header.rows(); ++row) {
    ASSERT_LT(ffn.offsets.at(row), ffn.offsets.at(row + 1));
    for (int32_t pair = ffn.offsets[row]; pair < ffn.offsets[row + 1]; ++pair) {
      ASSERT_GE(ffn.experts.at(pair), 0);
      ASSERT_EQ(ffn.weights.at(pair), ffn.weights.at(pair));
    }
  }
}

std::vector<SwapHeader> Samples() {
  SwapHeader bf16 = MakeDispatch(3, {{7}}, kHidden);
  bf16.format.dtype = kernels::DType::kBF16;
  SwapHeader captured = MakeHeader(4, {{1, 0, 3, ReturnRows::kAll}}, kHidden);
  LayerOf(captured).capture_layers = true;
  return {MakeHeader(1, {{1, 0, 2, ReturnRows::kAll}, {2, 5, 1, ReturnRows::kLast}}, kHidden),
          MakeDispatch(2, {{0, 300}, {1}, {2, 3, 4}}, kHidden, true), bf16, captured};
}

TEST(WireMessagesFuzzTest, MutatedSwapsAreSoundOrRefused) {
  std::mt19937 random(1);
  int sound = 0, refused = 0;
  for (const SwapHeader& sample : Samples()) {
    v1::Envelope message;
    ToWire(OneSwap(sample, std::vector<float>(sample.rows() * kHidden)), message);
    message.mutable_swaps(0)->clear_rows();
    const std::string bytes = message.SerializeAsString();
    for (int round = 0; round < kRounds; ++round) {
      v1::Envelope mutated;
      if (!mutated.ParseFromString(Mutated(bytes, random))) continue;
      const absl::StatusOr<RowFormat> format = FormatOf(mutated);
      if (!format.ok() || mutated.swaps().empty()) {
        ++refused;
        continue;
      }
      const absl::StatusOr<SwapHeader> header = FromWire(mutated.swaps(0), *format);
      const bool good = header.ok() && Validate(*header, kHidden).ok();
      ++(good ? sound : refused);
      if (good) ExpectSound(*header);
    }
  }
  EXPECT_GT(sound, 100);
  EXPECT_GT(refused, 100);
}

TEST(WireMessagesFuzzTest, MutatedAnswersHaveTheShapeOfTheirSwapOrAreErrors) {
  std::mt19937 random(2);
  int decoded = 0, refused = 0;
  for (const SwapHeader& sample : Samples()) {
    SwapResult result;
    if (sample.layer() != nullptr && sample.layer()->sequences.size() > 1) {
      result.verdicts.resize(sample.layer()->sequences.size());
      result.verdicts[1] = SwapError(SwapReason::kNoPages, "no pages");
    }
    result.rows.resize(ReturnedRows(sample, result) * kHidden);
    result.captured.resize(sample.captured_rows() * kHidden);
    v1::SwapAnswer message;
    ToWire(sample, result, message);
    const std::string bytes = message.SerializeAsString();
    for (int round = 0; round < kRounds; ++round) {
      v1::SwapAnswer mutated;
      if (!mutated.ParseFromString(Mutated(bytes, random))) continue;
      const absl::StatusOr<SwapResult> back = FromWire(mutated, sample);
      ++(back.ok() ? decoded : refused);
      if (back.ok()) {
        ASSERT_TRUE(CheckResult(sample, *back).ok());
      }
    }
  }
  EXPECT_GT(decoded, 100);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace ccoe::exchange
