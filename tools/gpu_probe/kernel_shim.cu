// SPDX-License-Identifier: Apache-2.0
// The products of matmul.h without the rest of the tree, for a machine that has nvcc and nothing
// else: build_here.sh compiles this with kernels/cuda/matmul_tile.cu and matmul_skinny.cu (as they
// were changed there) and runs it. One line of JSON a shape.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/cuda/matmul.h"

namespace ccoe::kernels {

// Nobody asks for the list here.
bool ListKernel(const void*, const char*) { return true; }

}  // namespace ccoe::kernels

namespace {

using namespace ccoe::kernels;  // NOLINT: a program of one file

constexpr int64_t kFeatures = 4096, kCols = 14336, kMostRows = 2048;
constexpr int kLayers = 6;  // their weights together are not in the L2 cache

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("{\"ok\": false, \"what\": \"%s\", \"error\": \"%s\"}\n", what,
              cudaGetErrorString(error));
  std::exit(1);
}

class ShimLauncher final : public Launcher {
  void LaunchRaw(const void* kernel, const LaunchShape& shape, const void* params,
                 size_t) override {
    Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shape.shared_bytes)),
          "shared memory");
    void* arguments[] = {const_cast<void*>(params)};
    const dim3 grid(shape.grid_x, shape.grid_y, shape.grid_z);
    Check(cudaLaunchKernel(kernel, grid, dim3(shape.block), arguments, shape.shared_bytes, nullptr),
          "a launch");
  }
};

char* Memory(int64_t bytes) {
  char* data = nullptr;
  Check(cudaMalloc(&data, bytes), "memory");
  // 0x3c3c: 0.0115 as bf16, about as much as f32 pairs of it.
  Check(cudaMemset(data, 0x3c, bytes), "memory");
  return data;
}

struct Operands {
  std::vector<char*> weights;
  char *x = Memory(kMostRows * kFeatures * 4), *out = Memory(kMostRows * kCols * 4);

  Operands() {
    for (int i = 0; i < kLayers; ++i) weights.push_back(Memory(kCols * kFeatures * 2));
  }
};

MatmulParams ParamsOf(const Operands& operands, int64_t rows, int call) {
  MatmulParams params;
  ClearParams(&params);
  params.x = operands.x;
  params.x_stride = params.k = kFeatures;
  params.rows = rows;
  params.part_count = 1;
  params.parts[0].weight = operands.weights[call % kLayers];
  params.parts[0].stride = kFeatures;
  params.parts[0].dtype = DType::kBF16;
  params.parts[0].cols = params.parts[0].out_stride = kCols;
  params.parts[0].out = reinterpret_cast<float*>(operands.out);
  return params;
}

void Measure(const Operands& operands, int64_t rows, int tile_rows) {
  constexpr int kCalls = 24, kRounds = 5;
  ShimLauncher launcher;
  MatmulLaunch launch;
  launch.fast = true;
  cudaEvent_t begin, end;
  Check(cudaEventCreate(&begin), "an event");
  Check(cudaEventCreate(&end), "an event");
  float best = 0;
  for (int round = 0; round <= kRounds; ++round) {
    Check(cudaEventRecord(begin), "an event");
    for (int call = 0; call < kCalls; ++call) {
      MatmulParams params = ParamsOf(operands, rows, call);
      if (rows <= kSkinnyRows) {
        CudaMatmulSkinny(&launcher, launch, tile_rows, &params);
      } else {
        CudaMatmulTile(&launcher, launch, tile_rows, /*split=*/false, &params);
      }
    }
    Check(cudaEventRecord(end), "an event");
    Check(cudaEventSynchronize(end), "the kernels");
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, begin, end), "an event");
    if (round == 1 || milliseconds < best) best = milliseconds;
  }
  const double seconds = 1e-3 * best / kCalls;
  const double weights = static_cast<double>(kCols) * kFeatures;
  std::printf(
      "{\"section\": \"matmul\", \"kernel\": \"%s\", \"kind\": \"plain\", \"rows\": %lld, "
      "\"tile_rows\": %d, \"us\": %.2f, \"gb_per_s\": %.1f, \"tflop_per_s\": %.2f}\n",
      rows <= kSkinnyRows ? "skinny" : "tile", static_cast<long long>(rows), tile_rows,
      1e6 * seconds, 2e-9 * weights / seconds, 2e-12 * weights * rows / seconds);
}

}  // namespace

int main() {
  const Operands operands;
  for (int64_t rows : {1, 8, 16}) Measure(operands, rows, rows <= 8 ? 8 : 16);
  for (int tile : kTileRows) {
    Measure(operands, tile, tile);
    Measure(operands, kMostRows, tile);
  }
  return 0;
}
