// SPDX-License-Identifier: Apache-2.0
// What every implementation of Ops must do. A test file instantiates it with its own ops:
//   INSTANTIATE_TEST_SUITE_P(Cpu, OpsConformance, ::testing::ValuesIn(...), OpsUnderTestName);
//   INSTANTIATE_TEST_SUITE_P(Cpu, OpsDeterminism, ::testing::ValuesIn(...), OpsUnderTestName);
// Tolerances come from the sizes summed over and the epsilon of f32; failures name the worst
// element.
#ifndef CCOE_TESTS_KERNELS_OPS_CONFORMANCE_H_
#define CCOE_TESTS_KERNELS_OPS_CONFORMANCE_H_

#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include "gtest/gtest.h"
#include "kernels/ops.h"

namespace ccoe::kernels {

struct OpsUnderTest {
  std::string name;  // letters, digits, underscores
  std::function<std::unique_ptr<Ops>()> make;
  // The determinism contract of ops.h holds (a GPU may have a faster mode where it does not): else
  // do not instantiate OpsDeterminism.
  bool deterministic = true;
  // Relative error of a product whose operands matrix products round: 0, or 2^-8 for bf16.
  double product_eps = 0.0;
  // Of the caches that attention is tested on, and the same error where attention rounds.
  DType kv_dtype = DType::kF32;
  double attention_eps = 0.0;
  // An emulated device, some thousand times slower than a real one: the largest cases are cut down
  // to what still takes every path.
  bool slow = false;
};

class OpsConformance : public ::testing::TestWithParam<OpsUnderTest> {
 protected:
  void SetUp() override { ops_ = GetParam().make(); }

  std::unique_ptr<Ops> ops_;
};

// A row gives the same bits alone and in any batch.
class OpsDeterminism : public OpsConformance {};

inline void PrintTo(const OpsUnderTest& test, std::ostream* out) { *out << test.name; }

inline std::string OpsUnderTestName(const ::testing::TestParamInfo<OpsUnderTest>& info) {
  return info.param.name;
}

}  // namespace ccoe::kernels

#endif  // CCOE_TESTS_KERNELS_OPS_CONFORMANCE_H_
