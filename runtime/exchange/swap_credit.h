// What a swap takes of a link, and what a link's ends grant each other.
#ifndef CCOE_RUNTIME_EXCHANGE_SWAP_CREDIT_H_
#define CCOE_RUNTIME_EXCHANGE_SWAP_CREDIT_H_

#include <algorithm>
#include <cstdint>

#include "runtime/exchange/envelope.h"

namespace ccoe::exchange {

struct SwapCredit {
  int64_t bytes = 0;  // sent and coming back, from the swap's start to its answer
  int64_t swaps = 0;

  bool Covers(const SwapCredit& cost) const { return cost.bytes <= bytes && cost.swaps <= swaps; }
  SwapCredit& operator+=(const SwapCredit& other) {
    bytes += other.bytes;
    swaps += other.swaps;
    return *this;
  }
  SwapCredit& operator-=(const SwapCredit& other) {
    bytes -= other.bytes;
    swaps -= other.swaps;
    return *this;
  }
  friend SwapCredit operator+(SwapCredit a, const SwapCredit& b) { return a += b; }

  // The lower of both.
  static SwapCredit Min(const SwapCredit& a, const SwapCredit& b) {
    return {std::min(a.bytes, b.bytes), std::min(a.swaps, b.swaps)};
  }
};

// The header has passed Validate.
inline SwapCredit CostOf(const SwapHeader& header) { return {SizeOf(header).total(), 1}; }
inline SwapCredit CostOf(const Envelope& envelope) {
  return {SizeOf(envelope).total(), static_cast<int64_t>(envelope.swaps.size())};
}

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_SWAP_CREDIT_H_
