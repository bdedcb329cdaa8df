// SPDX-License-Identifier: Apache-2.0
// Attention in f32 for any head_dim and cache, and the joining of chunks. A score is one chain of
// fused multiply-adds over head_dim; a chunk's l is summed by key modulo 32, then by the tree of a
// warp; o is summed over keys in order.
#include "kernels/cuda/attention_common.cuh"
#include "kernels/cuda/ptx.cuh"

namespace ccoe::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kCombineThreads = 128;
constexpr int64_t kSmallHeadDim = 256;

// Sizes for heads up to kSmallHeadDim, and beyond.
template <bool kSmall>
struct Sizes {
  static constexpr int kQueries = kSmall ? 16 : 8;
  static constexpr int kKeys =
      kSmall ? 32 : 16;  // tokens whose keys or values lie in shared memory
  static constexpr int kValues =
      kQueries * (kSmall ? kSmallHeadDim : kMaxHeadDim) / kThreads;  // of o, a thread
};

template <bool kSmall>
struct Shared {
  float *q, *tokens, *scores,
      *total;                        // [queries, d], [keys, d + 1], [queries, chunk], [queries, d]
  float *m, *l, *total_m, *total_l;  // [queries]

  __device__ __forceinline__ Shared(float* memory, int d) {
    constexpr int kQueries = Sizes<kSmall>::kQueries;
    q = memory;
    tokens = q + kQueries * d;
    scores = tokens + Sizes<kSmall>::kKeys * (d + 1);
    total = scores + kQueries * kAttentionChunk;
    m = total + kQueries * d;
    l = m + kQueries;
    total_m = l + kQueries;
    total_l = total_m + kQueries;
  }
};

// Keys or values of tokens [begin, begin + count) as f32: a warp a token.
__device__ __forceinline__ void LoadTokens(const AttentionParams& p, const AttentionItem& item,
                                           const void* cache, int64_t begin, int count, float* to) {
  const int d = static_cast<int>(p.head_dim);
  for (int token = threadIdx.x / kWarp; token < count; token += kThreads / kWarp) {
    const int64_t place = TokenPlace(p, item, blockIdx.y, begin + token);
    for (int c = threadIdx.x % kWarp; c < d; c += kWarp) {
      to[token * (d + 1) + c] = LoadElement(cache, p.dtype, place + c);
    }
  }
}

template <bool kSmall>
__device__ __forceinline__ void ScoreChunk(const AttentionParams& p, const AttentionItem& item,
                                           int64_t chunk, const TokenRange& seen,
                                           const Shared<kSmall>& s) {
  constexpr int kQueries = Sizes<kSmall>::kQueries, kKeys = Sizes<kSmall>::kKeys;
  const int d = static_cast<int>(p.head_dim);
  const int64_t origin = chunk * kAttentionChunk;
  for (int i = threadIdx.x; i < kQueries * kAttentionChunk; i += kThreads) {
    s.scores[i] = -CUDART_INF_F;
  }
  for (int64_t begin = seen.begin; begin < seen.end; begin += kKeys) {
    const int count = static_cast<int>(min(int64_t{kKeys}, seen.end - begin));
    __syncthreads();  // the tokens before have been used; the scores are cleared
    LoadTokens(p, item, p.k, begin, count, s.tokens);
    __syncthreads();
    for (int i = threadIdx.x; i < kQueries * kKeys; i += kThreads) {
      const int query = i / kKeys, key = i % kKeys;
      if (query >= item.query_count || key >= count) continue;
      const int64_t position = PositionOf(p, item, query), token = begin + key;
      if (token > position || token < WindowBegin(p, position)) continue;
      const float* a = s.q + query * d;
      const float* b = s.tokens + key * (d + 1);
      float sum = 0.0f;
      for (int c = 0; c < d; ++c) sum = fmaf(a[c], b[c], sum);
      s.scores[query * kAttentionChunk + token - origin] = ScaledScore(p, sum);
    }
  }
  __syncthreads();
}

// Scores become exp(score - m); a warp a query.
template <bool kSmall>
__device__ __forceinline__ void SoftmaxChunk(const Shared<kSmall>& s) {
  const int lane = threadIdx.x % kWarp;
  for (int query = threadIdx.x / kWarp; query < Sizes<kSmall>::kQueries;
       query += kThreads / kWarp) {
    float* scores = s.scores + query * kAttentionChunk;
    float m = -CUDART_INF_F;
    for (int i = lane; i < kAttentionChunk; i += kWarp) m = fmaxf(m, scores[i]);
    m = WarpMax(m);
    float sum = 0.0f;
    for (int i = lane; i < kAttentionChunk; i += kWarp) {
      const float weight = scores[i] == -CUDART_INF_F ? 0.0f : expf(scores[i] - m);
      scores[i] = weight;
      sum += weight;
    }
    sum = WarpSum(sum);
    if (lane == 0) {
      s.m[query] = m;
      s.l[query] = sum;
    }
  }
}

template <bool kSmall>
__device__ __forceinline__ void AddValues(const AttentionParams& p, const AttentionItem& item,
                                          int64_t chunk, const TokenRange& seen,
                                          const Shared<kSmall>& s,
                                          float (&o)[Sizes<kSmall>::kValues]) {
  constexpr int kKeys = Sizes<kSmall>::kKeys;
  const int d = static_cast<int>(p.head_dim);
  const int64_t origin = chunk * kAttentionChunk;
#pragma unroll
  for (int v = 0; v < Sizes<kSmall>::kValues; ++v) o[v] = 0.0f;
  for (int64_t begin = seen.begin; begin < seen.end; begin += kKeys) {
    const int count = static_cast<int>(min(int64_t{kKeys}, seen.end - begin));
    __syncthreads();  // the tokens before have been used; weights are written
    LoadTokens(p, item, p.v, begin, count, s.tokens);
    __syncthreads();
#pragma unroll
    for (int v = 0; v < Sizes<kSmall>::kValues; ++v) {
      const int i = threadIdx.x + v * kThreads;
      if (i >= Sizes<kSmall>::kQueries * d) break;
      const float* weights = s.scores + i / d * kAttentionChunk + (begin - origin);
      const float* values = s.tokens + i % d;
      float sum = o[v];
      for (int key = 0; key < count; ++key) {
        sum = fmaf(weights[key], values[key * (d + 1)], sum);
      }
      o[v] = sum;
    }
  }
}

template <bool kSmall>
__global__ void __launch_bounds__(kThreads)
    GeneralKernel(const __grid_constant__ AttentionParams p) {
  constexpr int kQueries = Sizes<kSmall>::kQueries;
  CCOE_DYNAMIC_SHARED(float, memory);
  if (blockIdx.x >= *p.item_count) return;
  const AttentionItem item = p.items[blockIdx.x];
  const int d = static_cast<int>(p.head_dim);
  const Shared<kSmall> s(memory, d);
  for (int i = threadIdx.x; i < kQueries * d; i += kThreads) {
    const int query = i / d;
    s.q[i] =
        query < item.query_count
            ? static_cast<const float*>(p.q.data)[QueryRow(p, item, query) * p.q.stride +
                                                  QueryColumn(p, item, blockIdx.y, query) + i % d]
            : 0.0f;
    s.total[i] = 0.0f;
  }
  for (int query = threadIdx.x; query < kQueries; query += kThreads) {
    s.total_m[query] = -CUDART_INF_F;
    s.total_l[query] = 0.0f;
  }
  float o[Sizes<kSmall>::kValues];
  for (int64_t chunk = item.chunk_begin; chunk < item.chunk_end; ++chunk) {
    const TokenRange seen = SeenTokens(p, item, chunk);
    ScoreChunk(p, item, chunk, seen, s);
    SoftmaxChunk(s);
    __syncthreads();  // m, l and weights are written
    AddValues(p, item, chunk, seen, s, o);
    if (item.partial >= 0) break;  // one chunk: its sums are the result
#pragma unroll
    for (int v = 0; v < Sizes<kSmall>::kValues; ++v) {
      const int i = threadIdx.x + v * kThreads;
      if (i >= kQueries * d) break;
      const int query = i / d;
      const Joining joined = Join(s.total_m[query], s.total_l[query], s.m[query], s.l[query]);
      s.total[i] = JoinValue(joined, s.total[i], o[v]);
    }
    __syncthreads();  // the old sums have been read
    for (int query = threadIdx.x; query < kQueries; query += kThreads) {
      const Joining joined = Join(s.total_m[query], s.total_l[query], s.m[query], s.l[query]);
      s.total_m[query] = joined.m;
      s.total_l[query] = joined.l;
    }
    __syncthreads();
  }
#pragma unroll
  for (int v = 0; v < Sizes<kSmall>::kValues; ++v) {
    const int i = threadIdx.x + v * kThreads;
    const int query = i / d, c = i % d;
    if (i >= kQueries * d || query >= item.query_count) break;
    if (item.partial >= 0) {
      float* partial = PartialAt(p, item.partial, blockIdx.y, query);
      partial[c] = o[v];
      if (c == 0) {
        partial[d] = s.m[query];
        partial[d + 1] = s.l[query];
      }
    } else {
      static_cast<float*>(p.out.data)[QueryRow(p, item, query) * p.out.stride +
                                      QueryColumn(p, item, blockIdx.y, query) + c] =
          s.total[i] * (1.0f / s.total_l[query]);
    }
  }
}

__global__ void __launch_bounds__(kCombineThreads)
    CombineChunksKernel(const __grid_constant__ AttentionParams p) {
  if (blockIdx.x >= *p.item_count) return;
  const AttentionItem item = p.items[blockIdx.x];
  const int64_t query = blockIdx.z, d = p.head_dim;
  if (query >= item.query_count) return;
  float* out = static_cast<float*>(p.out.data) + QueryRow(p, item, query) * p.out.stride +
               QueryColumn(p, item, blockIdx.y, query);
  for (int64_t c = threadIdx.x; c < d; c += kCombineThreads) {
    float total = 0.0f, total_m = -CUDART_INF_F, total_l = 0.0f;
    for (int64_t i = 0; i < item.chunk_end - item.chunk_begin; ++i) {
      const float* partial = PartialAt(p, item.partial + i, blockIdx.y, query);
      const Joining joined = Join(total_m, total_l, partial[d], partial[d + 1]);
      total = JoinValue(joined, total, partial[c]);
      total_m = joined.m;
      total_l = joined.l;
    }
    out[c] = total * (1.0f / total_l);
  }
}

}  // namespace

int AttentionGeneralQueries(int64_t head_dim) {
  return head_dim <= kSmallHeadDim ? Sizes<true>::kQueries : Sizes<false>::kQueries;
}

size_t AttentionGeneralShared(int64_t head_dim) {
  const int64_t queries = AttentionGeneralQueries(head_dim);
  const int64_t keys = head_dim <= kSmallHeadDim ? Sizes<true>::kKeys : Sizes<false>::kKeys;
  return sizeof(float) *
         (2 * queries * head_dim + keys * (head_dim + 1) + queries * kAttentionChunk + 4 * queries);
}

void CudaAttentionGeneral(Launcher* launcher, const AttentionParams& params, int64_t items) {
  LaunchShape shape;
  shape.grid_x = items;
  shape.grid_y = params.kv_heads;
  shape.block = kThreads;
  shape.shared_bytes = AttentionGeneralShared(params.head_dim);
  if (params.head_dim <= kSmallHeadDim) {
    return launcher->Launch<GeneralKernel<true>>(shape, params);
  }
  launcher->Launch<GeneralKernel<false>>(shape, params);
}

void CudaAttentionCombine(Launcher* launcher, const AttentionParams& params, int64_t items) {
  LaunchShape shape;
  shape.grid_x = items;
  shape.grid_y = params.kv_heads;
  shape.grid_z = params.query_tile;
  shape.block = kCombineThreads;
  launcher->Launch<CombineChunksKernel>(shape, params);
}

}  // namespace ccoe::kernels
