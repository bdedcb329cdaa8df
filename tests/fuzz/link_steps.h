// SPDX-License-Identifier: Apache-2.0
// A link's messages made of a fuzzer's bytes: most make sense, some hardly, some not at all.
#ifndef CCOE_TESTS_FUZZ_LINK_STEPS_H_
#define CCOE_TESTS_FUZZ_LINK_STEPS_H_

#include <google/protobuf/stubs/logging.h>

#include <cstdint>
#include <iterator>
#include <limits>
#include <string>

#include "ccoe/v1/exchange.pb.h"
#include "tests/fuzz/fuzz_input.h"

namespace ccoe::exchange {

inline constexpr int64_t kFuzzHidden = 4;

// Mostly small; one of sixteen times a number that sums and products break on.
inline int64_t Number(FuzzInput& input) {
  constexpr int64_t kOdd[] = {-1,
                              0,
                              255,
                              65537,
                              (1 << 24) + 1,
                              std::numeric_limits<int32_t>::max(),
                              std::numeric_limits<int64_t>::max(),
                              std::numeric_limits<int64_t>::min()};
  const uint8_t byte = input.Byte();
  return byte < 240 ? byte % 5 : kOdd[byte % std::size(kOdd)];
}

inline float Weight(FuzzInput& input) {
  const uint8_t byte = input.Byte();
  if (byte == 255) return std::numeric_limits<float>::quiet_NaN();
  if (byte == 254) return std::numeric_limits<float>::infinity();
  return static_cast<float>(byte) / 16.0f - 4.0f;
}

// Returns the rows that it says it has.
inline int64_t Fill(FuzzInput& input, v1::LayerRows& layer) {
  const uint8_t flags = input.Byte();
  if (flags % 16 != 0) {
    layer.mutable_expert()->set_name("math");
    layer.mutable_expert()->set_version(1);
  }
  layer.set_first_layer(static_cast<int32_t>(flags / 16 % 4));
  layer.set_last_layer(
      static_cast<int32_t>(layer.first_layer() + Number(input) % (int64_t{1} << 40)));
  layer.set_capture_layers(flags >= 200);
  int64_t rows = 0;
  for (int left = input.Byte() % 4; left > 0; --left) {
    v1::SwapSequence& sequence = *layer.add_sequences();
    sequence.set_sequence_id(input.Byte() % 8);
    sequence.set_first_position(Number(input));
    sequence.set_row_count(Number(input));
    sequence.set_return_rows(static_cast<v1::ReturnRows>(input.Byte() % 5));
    if (sequence.row_count() > 0 && sequence.row_count() < 10) rows += sequence.row_count();
  }
  return rows;
}

inline int64_t Fill(FuzzInput& input, v1::FfnRows& ffn) {
  ffn.set_layer(static_cast<int32_t>(Number(input)));
  const uint8_t flags = input.Byte();
  ffn.set_combine(flags % 2 == 1);
  for (int row = flags / 2 % 4; row > 0; --row) {
    const auto count = static_cast<int32_t>(Number(input));
    ffn.add_counts(count);
    for (int32_t i = 0; i < count && i < 5; ++i) {
      ffn.add_experts(static_cast<int32_t>(i + Number(input) % (int64_t{1} << 40)));
      ffn.add_weights(Weight(input));
    }
  }
  if (flags >= 250) ffn.add_weights(0.0f);
  return ffn.counts_size();
}

inline void Fill(FuzzInput& input, uint64_t& last_id, v1::Envelope& envelope) {
  const uint8_t form = input.Byte();
  envelope.set_step_id(form);
  envelope.set_hidden_size(form % 32 == 31 ? Number(input) : kFuzzHidden);
  envelope.set_wire_dtype(static_cast<v1::WireDtype>(form / 32 % 8 == 7 ? 3 : 1 + form / 32 % 2));
  const int64_t element = envelope.wire_dtype() == v1::WIRE_DTYPE_BF16 ? 2 : 4;
  for (int left = 1 + input.Byte() % 4; left > 0; --left) {
    v1::SwapRequest& swap = *envelope.add_swaps();
    const uint8_t flags = input.Byte();
    if (flags % 32 != 31) ++last_id;
    swap.set_id(last_id);
    int64_t rows = 0;
    if (flags / 32 < 4) {
      rows = Fill(input, *swap.mutable_layer());
    } else if (flags / 32 < 7) {
      rows = Fill(input, *swap.mutable_ffn());
    }
    const int64_t wrong = flags % 32 == 30 ? 1 : 0;
    swap.set_rows(std::string(static_cast<size_t>(rows * kFuzzHidden * element + wrong), '\1'));
  }
}

// Whatever bytes of the wire.
template <typename Message>
void FillRaw(FuzzInput& input, Message& message) {
  // Else each text that is no UTF-8 is logged.
  [[maybe_unused]] static auto* const silent = google::protobuf::SetLogHandler(nullptr);
  if (!message.ParseFromString(std::string(input.Take(input.Byte())))) message.Clear();
}

}  // namespace ccoe::exchange

#endif  // CCOE_TESTS_FUZZ_LINK_STEPS_H_
