// SPDX-License-Identifier: Apache-2.0
// One warp a row. Lane l holds the experts l, l + 32, ...: sums are taken by lane in rising order,
// then by the tree of a warp, so they depend on the number of experts alone.
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/gate.h"
#include "kernels/cuda/ptx.cuh"

namespace ccoe::kernels {
namespace {

enum State : int32_t { kOut = 0, kOpen = 1, kChosen = 2 };

__device__ __forceinline__ float Comparable(float score) {
  return score != score ? -CUDART_INF_F : score;
}

// The best of `count` entries that are kOpen: the highest score, ties to the lower index; -1 where
// none is. The same in all lanes.
__device__ __forceinline__ int64_t BestOpen(const float* scores, const int32_t* states,
                                            int64_t count) {
  float best = -CUDART_INF_F;
  int64_t index = -1;
  for (int64_t i = threadIdx.x; i < count; i += kWarp) {
    if (states[i] == kOpen && (index < 0 || scores[i] > best)) {
      best = scores[i];
      index = i;
    }
  }
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, best, step);
    const int64_t other_index = __shfl_xor_sync(kAllLanes, index, step);
    const bool take =
        other_index >= 0 && (index < 0 || other > best || (other == best && other_index < index));
    if (take) {
      best = other;
      index = other_index;
    }
  }
  return index;
}

__device__ __forceinline__ void Score(const GateParams& p, const float* logits, float* scores) {
  const int64_t experts = p.logits.cols;
  if (p.score == RouterScore::kSigmoid) {
    for (int64_t e = threadIdx.x; e < experts; e += kWarp) {
      scores[e] = 1.0f / (1.0f + expf(-logits[e]));
    }
    return;
  }
  float largest = -CUDART_INF_F;
  for (int64_t e = threadIdx.x; e < experts; e += kWarp) largest = fmaxf(largest, logits[e]);
  largest = WarpMax(largest);
  float sum = 0.0f;
  for (int64_t e = threadIdx.x; e < experts; e += kWarp) {
    scores[e] = expf(logits[e] - largest);
    sum += scores[e];
  }
  sum = WarpSum(sum);
  for (int64_t e = threadIdx.x; e < experts; e += kWarp) scores[e] /= sum;
}

// Marks the best groups kChosen, from the selection scores before steering.
__device__ __forceinline__ void ChooseGroups(const GateParams& p, const float* selection,
                                             float* group_scores, int32_t* group_states) {
  const int64_t size = p.logits.cols / p.groups;
  for (int64_t g = threadIdx.x; g < p.groups; g += kWarp) {
    float best = -CUDART_INF_F, second = -CUDART_INF_F;
    for (int64_t i = g * size; i < (g + 1) * size; ++i) {
      second = fmaxf(second, fminf(best, selection[i]));
      best = fmaxf(best, selection[i]);
    }
    const bool sum = p.group_score == GroupScore::kTopTwoSum && size > 1;
    group_scores[g] = Comparable(sum ? best + second : best);
    group_states[g] = kOpen;
  }
  __syncwarp();
  for (int64_t i = 0; i < p.top_groups; ++i) {
    const int64_t g = BestOpen(group_scores, group_states, p.groups);
    if (threadIdx.x == 0 && g >= 0) group_states[g] = kChosen;
    __syncwarp();
  }
}

// The chosen experts in rising order; what the row does not use becomes -1 and 0.
__device__ __forceinline__ void Write(const GateParams& p, int64_t row, const float* scores,
                                      const int32_t* states) {
  int32_t* experts = p.experts + row * p.top_k;
  float* weights = p.weights + row * p.top_k;
  const int64_t count = p.logits.cols;
  int64_t written = 0;
  float sum = 0.0f;  // over chosen experts in rising order, the same in all lanes
  for (int64_t base = 0; base < count; base += kWarp) {
    const int64_t e = base + threadIdx.x;
    unsigned chosen = __ballot_sync(kAllLanes, e < count && states[e] == kChosen);
    for (; chosen != 0; chosen &= chosen - 1) {
      const int64_t expert = base + __ffs(chosen) - 1;
      if (threadIdx.x == 0) experts[written] = static_cast<int32_t>(expert);
      sum += scores[expert];
      ++written;
    }
  }
  for (int64_t i = written + threadIdx.x; i < p.top_k; i += kWarp) {
    experts[i] = -1;
    weights[i] = 0.0f;
  }
  __syncwarp();  // lane 0's experts are read by all lanes
  const bool divide = p.renormalize && sum != 0.0f;
  for (int64_t i = threadIdx.x; i < written; i += kWarp) {
    const float score = scores[experts[i]];
    weights[i] = (divide ? score / sum : score) * p.scale;
  }
}

__global__ void GateKernel(const GateParams p) {
  CCOE_DYNAMIC_SHARED(float, shared);
  const int64_t experts = p.logits.cols;
  float* scores = shared;
  float* selection = scores + experts;
  int32_t* states = reinterpret_cast<int32_t*>(selection + experts);
  float* group_scores = reinterpret_cast<float*>(states + experts);
  int32_t* group_states = reinterpret_cast<int32_t*>(group_scores + p.groups);
  const int64_t row = blockIdx.x;
  Score(p, static_cast<const float*>(p.logits.data) + row * p.logits.stride, scores);
  for (int64_t e = threadIdx.x; e < experts; e += kWarp) {
    const float bias = p.bias.data == nullptr ? 0.0f : LoadElement(p.bias.data, p.bias.dtype, e);
    selection[e] = Comparable(p.bias.data == nullptr ? scores[e] : scores[e] + bias);
  }
  __syncwarp();
  const bool grouped = p.top_groups < p.groups;
  if (grouped) ChooseGroups(p, selection, group_scores, group_states);
  const int32_t steer = p.row_steering == nullptr ? -1 : p.row_steering[row];
  const float* steering = steer < 0 ? nullptr : p.steering + steer * experts;
  const int64_t size = experts / p.groups;
  for (int64_t e = threadIdx.x; e < experts; e += kWarp) {
    const float s = steering == nullptr ? 0.0f : steering[e];
    const bool forced = s == CUDART_INF_F;
    const bool open = !grouped || group_states[e / size] == kChosen;
    states[e] = s == -CUDART_INF_F || (!forced && !open) ? kOut : kOpen;
    selection[e] = forced ? s : selection[e] + s;
  }
  __syncwarp();
  const int64_t k = p.row_k == nullptr ? p.top_k : p.row_k[row];
  for (int64_t i = 0; i < k; ++i) {
    const int64_t e = BestOpen(selection, states, experts);
    if (e < 0) break;  // the same in all lanes
    if (threadIdx.x == 0) states[e] = kChosen;
    __syncwarp();
  }
  Write(p, row, scores, states);
}

}  // namespace

void CudaTopKGate(Launcher* launcher, const GateParams& params) {
  LaunchShape shape;
  shape.grid_x = params.logits.rows;
  shape.block = kWarp;
  shape.shared_bytes = GateSharedBytes(params.logits.cols, params.groups);
  launcher->Launch<GateKernel>(shape, params);
}

}  // namespace ccoe::kernels
