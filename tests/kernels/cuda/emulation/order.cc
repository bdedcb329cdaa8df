// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/emulation/order.h"

#include <cstdlib>
#include <string>

#include "runtime/base/check.h"

namespace ccoe::emulation {
namespace {

Order OrderOfEnvironment() {
  const char* value = std::getenv("CCOE_EMULATION_ORDER");
  const std::string name = value == nullptr ? "forward" : value;
  CCOE_CHECK(name == "forward" || name == "backward" || name == "random");
  Order order;
  if (name == "backward") order.kind = OrderKind::kBackward;
  if (name == "random") order.kind = OrderKind::kRandom;
  return order;
}

Order& TheOrder() {
  static Order order = OrderOfEnvironment();
  return order;
}

}  // namespace

Order CurrentOrder() { return TheOrder(); }
void SetOrder(const Order& order) { TheOrder() = order; }

}  // namespace ccoe::emulation
