// SPDX-License-Identifier: Apache-2.0
// A small model with two layers of FFN experts and random weights, for tests of what runs them.
#ifndef CCOE_TESTS_RUNTIME_EXPERTS_TINY_FFN_EXPERTS_H_
#define CCOE_TESTS_RUNTIME_EXPERTS_TINY_FFN_EXPERTS_H_

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/exchange/envelope.h"
#include "runtime/model/ffn.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"
#include "tests/runtime/experts/swaps.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::experts {

// Layers 1 and 2 have six FFN experts each; layer 0 has none.
inline model::ModelSpec TinyFfnSpec() {
  model::ModelSpec spec = testing::TinyMoeSpec();
  spec.layers.push_back(spec.layers[1]);
  return spec;
}

inline constexpr int64_t kTinyHidden = 24;

class TinyFfnExperts {
 public:
  TinyFfnExperts() {
    CCOE_CHECK(testing::WriteTinyWeights(spec, folder_.path(), 5).ok());
    auto opened = model::Weights::Open(folder_.path());
    CCOE_CHECK(opened.ok());
    weights = *std::move(opened);
  }

  // For `layer`; row r goes through experts_of[r].
  static exchange::SwapHeader Header(uint64_t id, int32_t layer,
                                     const std::vector<std::vector<int32_t>>& experts_of,
                                     bool combine = false) {
    return FfnHeader(id, layer, experts_of, kTinyHidden, combine);
  }

  // `count` rows through 1 to 3 experts of six, as `seed` has it.
  static exchange::SwapHeader RandomHeader(uint64_t id, int32_t layer, int64_t count, uint32_t seed,
                                           bool combine = false) {
    std::mt19937 random(seed);
    std::vector<std::vector<int32_t>> experts_of(count);
    for (std::vector<int32_t>& experts : experts_of) {
      const uint32_t set = 1 + random() % 7;  // of three neighbours
      const int32_t first = static_cast<int32_t>(random() % 4);
      for (int32_t i = 0; i < 3; ++i) {
        if ((set >> i & 1) != 0) experts.push_back(first + i);
      }
    }
    return Header(id, layer, experts_of, combine);
  }

  static std::vector<float> Rows(int64_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, 1.0f);
    std::vector<float> values(count * kTinyHidden);
    for (float& value : values) value = normal(random);
    return values;
  }

  // What a swap must give, in double precision.
  std::vector<double> Reference(const exchange::FfnSwap& ffn,
                                const std::vector<float>& rows) const {
    std::vector<double> results(ffn.returned_rows() * kTinyHidden);
    for (int64_t row = 0; row < ffn.rows(); ++row) {
      for (int32_t pair = ffn.offsets[row]; pair < ffn.offsets[row + 1]; ++pair) {
        const std::vector<double> out =
            RunExpert(ffn.layer, ffn.experts[pair], rows.data() + row * kTinyHidden);
        double* target = results.data() + (ffn.combine ? row : pair) * kTinyHidden;
        for (int64_t i = 0; i < kTinyHidden; ++i) target[i] += ffn.weights[pair] * out[i];
      }
    }
    return results;
  }

  const model::ModelSpec spec = TinyFfnSpec();
  std::shared_ptr<const model::Weights> weights;

 private:
  static double Dot(const kernels::ConstMatrix& matrix, int64_t row, const double* x) {
    const float* values = static_cast<const float*>(matrix.Row(row));
    double sum = 0;
    for (int64_t i = 0; i < matrix.cols; ++i) sum += values[i] * x[i];
    return sum;
  }

  std::vector<double> RunExpert(int32_t layer, int32_t number, const float* row) const {
    const auto expert = model::BindFfnExpert(spec, layer, number, *weights);
    CCOE_CHECK(expert.ok());
    const std::vector<double> x(row, row + kTinyHidden);
    std::vector<double> inner(expert->gate.rows), out(kTinyHidden);
    for (size_t i = 0; i < inner.size(); ++i) {
      const double gate = Dot(expert->gate, i, x.data());
      inner[i] = gate / (1.0 + std::exp(-gate)) * Dot(expert->up, i, x.data());
    }
    for (int64_t i = 0; i < kTinyHidden; ++i) out[i] = Dot(expert->down, i, inner.data());
    return out;
  }

  testing::TempFolder folder_;
};

}  // namespace ccoe::experts

#endif  // CCOE_TESTS_RUNTIME_EXPERTS_TINY_FFN_EXPERTS_H_
