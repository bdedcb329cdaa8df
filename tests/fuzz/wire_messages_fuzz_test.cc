// Mutated messages of a link: whatever the bytes, a checked header or an error, and never a crash
// or a size that is not there. The mutations are drawn from a fixed seed.
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/exchange/grpc/wire_messages.h"
#include "runtime/exchange/swap_size.h"
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
void ExpectSound(const StepHeader& header) {
  const SwapBytes bytes = SizeOf(header);
  EXPECT_GT(header.rows(), 0);
  EXPECT_GE(header.returned_rows(), 0);
  EXPECT_GT(bytes.sent, 0);
  EXPECT_GE(bytes.returned, 0);
  CheckFitsMessage(header).IgnoreError();
  if (!header.ffn.has_value()) return;
  for (int64_t row = 0; row < header.rows(); ++row) {
    ASSERT_LT(header.ffn->offsets.at(row), header.ffn->offsets.at(row + 1));
    for (int32_t pair = header.ffn->offsets[row]; pair < header.ffn->offsets[row + 1]; ++pair) {
      ASSERT_GE(header.ffn->experts.at(pair), 0);
      ASSERT_EQ(header.ffn->weights.at(pair), header.ffn->weights.at(pair));
    }
  }
}

std::vector<StepHeader> Samples() {
  StepHeader bf16 = MakeDispatch(3, {{7}}, kHidden);
  bf16.wire_dtype = kernels::DType::kBF16;
  StepHeader captured = MakeHeader(4, {{1, 0, 3, ReturnRows::kAll}}, kHidden);
  captured.capture_layers = true;
  return {MakeHeader(1, {{1, 0, 2, ReturnRows::kAll}, {2, 5, 1, ReturnRows::kLast}}, kHidden),
          MakeDispatch(2, {{0, 300}, {1}, {2, 3, 4}}, kHidden, true), bf16, captured};
}

TEST(WireMessagesFuzzTest, MutatedHeadersAreSoundOrRefused) {
  std::mt19937 random(1);
  int sound = 0, refused = 0;
  for (const StepHeader& sample : Samples()) {
    v1::StepHeader message;
    ToWire(sample, message);
    const std::string bytes = message.SerializeAsString();
    for (int round = 0; round < kRounds; ++round) {
      v1::StepHeader mutated;
      if (!mutated.ParseFromString(Mutated(bytes, random))) continue;
      const absl::StatusOr<StepHeader> header = FromWire(mutated);
      const bool good = header.ok() && Validate(*header, kHidden).ok();
      ++(good ? sound : refused);
      if (good) ExpectSound(*header);
    }
  }
  EXPECT_GT(sound, 100);
  EXPECT_GT(refused, 100);
}

TEST(WireMessagesFuzzTest, MutatedAnswersHaveTheSizeOfTheirStepOrAreErrors) {
  std::mt19937 random(2);
  for (const StepHeader& sample : Samples()) {
    SwapResult result;
    result.rows.resize(sample.returned_rows() * kHidden);
    if (sample.capture_layers) {
      result.captured.resize(sample.layers.size() * sample.rows() * kHidden);
    }
    v1::SwapReply message;
    ToWire(sample, result, message);
    const std::string bytes = message.SerializeAsString();
    for (int round = 0; round < kRounds; ++round) {
      v1::SwapReply mutated;
      if (!mutated.ParseFromString(Mutated(bytes, random))) continue;
      const absl::StatusOr<SwapResult> decoded = FromWire(mutated, sample);
      if (!decoded.ok()) continue;
      ASSERT_EQ(decoded->rows.size(), result.rows.size());
      ASSERT_EQ(decoded->captured.size(), result.captured.size());
    }
  }
}

}  // namespace
}  // namespace ccoe::exchange
