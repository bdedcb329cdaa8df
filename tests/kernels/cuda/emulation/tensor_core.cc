// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/emulation/tensor_core.h"

#include <cstring>

#include "kernels/cpu/half.h"
#include "tests/kernels/cuda/emulation/report.h"

namespace ccoe::emulation {
namespace {

constexpr int kLanes = 32;

// Element 0 or 1 of a register.
template <class T>
float Half(uint32_t packed, int i) {
  return kernels::ToF32(T{static_cast<uint16_t>(packed >> 16 * i)});
}

template <class T>
void Multiply(void* const* lanes) {
  float a[16][16], b[16][8], c[16][8];
  for (int l = 0; l < kLanes; ++l) {
    const auto& lane = *static_cast<const MmaLane*>(lanes[l]);
    const int group = l / 4, pair = 2 * (l % 4);
    for (int i = 0; i < 2; ++i) {
      a[group][pair + i] = Half<T>(lane.a[0], i);
      a[group + 8][pair + i] = Half<T>(lane.a[1], i);
      a[group][pair + 8 + i] = Half<T>(lane.a[2], i);
      a[group + 8][pair + 8 + i] = Half<T>(lane.a[3], i);
      b[pair + i][group] = Half<T>(lane.b[0], i);
      b[pair + 8 + i][group] = Half<T>(lane.b[1], i);
      c[group][pair + i] = lane.c[i];
      c[group + 8][pair + i] = lane.c[2 + i];
    }
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int col = 0; col < 8; ++col) c[row][col] += a[row][k] * b[k][col];
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    const auto& lane = *static_cast<const MmaLane*>(lanes[l]);
    const int group = l / 4, pair = 2 * (l % 4);
    for (int i = 0; i < 2; ++i) {
      lane.c[i] = c[group][pair + i];
      lane.c[2 + i] = c[group + 8][pair + i];
    }
  }
}

}  // namespace

void MultiplyBf16(void* const* lanes, uint32_t) { Multiply<kernels::BF16>(lanes); }
void MultiplyF16(void* const* lanes, uint32_t) { Multiply<kernels::F16>(lanes); }

void LoadMatricesTransposed(void* const* lanes, uint32_t) {
  uint16_t matrices[4][8][8];
  for (int l = 0; l < kLanes; ++l) {
    const void* row = static_cast<const MatrixLane*>(lanes[l])->row;
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) Fault("ldmatrix: misaligned");
    std::memcpy(matrices[l / 8][l % 8], row, sizeof(matrices[0][0]));
  }
  for (int l = 0; l < kLanes; ++l) {
    const auto& lane = *static_cast<const MatrixLane*>(lanes[l]);
    const int row = 2 * (l % 4), col = l / 4;
    for (int m = 0; m < 4; ++m) {
      lane.to[m] = matrices[m][row][col] | static_cast<uint32_t>(matrices[m][row + 1][col]) << 16;
    }
  }
}

}  // namespace ccoe::emulation
