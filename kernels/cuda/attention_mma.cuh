// SPDX-License-Identifier: Apache-2.0
// Attention on tensor cores, after Dao et al. 2022 (arXiv 2205.14135). A warp has 16 queries; the
// warps of a block share tiles of keys and values, which lie at fixed absolute positions, in two
// stages of shared memory filled by asynchronous copies. Within a chunk the softmax is kept online
// tile by tile; a tile that a query does not see multiplies its sums by exactly one and adds
// exactly zero, so what other queries see changes no bit.
#ifndef CCOE_KERNELS_CUDA_ATTENTION_MMA_CUH_
#define CCOE_KERNELS_CUDA_ATTENTION_MMA_CUH_

#include "kernels/cuda/attention_common.cuh"
#include "kernels/cuda/ptx.cuh"

namespace ccoe::kernels {
namespace attention_mma {

constexpr float kLog2E = 1.4426950408889634f;

template <int kD>
struct MmaSizes {
  static constexpr int kKeys = AttentionMmaKeys(kD);  // of a tile; divides kAttentionChunk
  static constexpr int kChunks = kD / 8;              // pieces of 16 bytes of a key
  static constexpr int kTotalStride = kD + kAttentionMmaPadding;
};

template <class T>
struct Packed;
template <>
struct Packed<__half> {
  static __device__ __forceinline__ uint32_t Pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
  static __device__ __forceinline__ void Mma(uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                             uint32_t b0, uint32_t b1, float (&c)[4]) {
    MmaF16(a0, a1, a2, a3, b0, b1, c);
  }
};
template <>
struct Packed<__nv_bfloat16> {
  static __device__ __forceinline__ uint32_t Pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
  static __device__ __forceinline__ void Mma(uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                             uint32_t b0, uint32_t b1, float (&c)[4]) {
    MmaBf16(a0, a1, a2, a3, b0, b1, c);
  }
};

// One tile's keys and values. Pieces of 16 bytes are permuted within their row so that no two lanes
// that read together meet on a bank: keys are read by eight lanes at two neighbouring rows and four
// neighbouring pieces, values by eight lanes at eight rows and one piece.
template <int kD>
struct TokenTile {
  using S = MmaSizes<kD>;
  uint4 keys[S::kKeys * S::kChunks];
  uint4 values[S::kKeys * S::kChunks];

  static __device__ __forceinline__ int KeyAt(int row, int piece) {
    return row * S::kChunks + (piece ^ (row % 2 * 4));
  }
  static __device__ __forceinline__ int ValueAt(int row, int piece) {
    return row * S::kChunks + (piece ^ (row % 8));
  }
};

template <class T, int kD, int kWarps>
class MmaBlock {
  using S = MmaSizes<kD>;
  static constexpr int kKeys = S::kKeys;
  static constexpr int kBlocks32 = kD / 32;           // of features
  static constexpr int kRowsOfWarp = kKeys / kWarps;  // of a tile, to load

 public:
  __device__ __forceinline__ MmaBlock(const AttentionParams& p, const AttentionItem& item,
                                      char* memory)
      : p_(p),
        item_(item),
        tiles_(reinterpret_cast<TokenTile<kD>*>(memory)),
        warp_(threadIdx.x / kWarp),
        lane_(threadIdx.x % kWarp) {
    total_ =
        reinterpret_cast<float*>(memory + 2 * sizeof(TokenTile<kD>)) + warp_ * 16 * S::kTotalStride;
    const int64_t last = PositionOf(p, item, item.query_count - 1);
    begin_ =
        max(int64_t{item.chunk_begin} * kAttentionChunk, WindowBegin(p, PositionOf(p, item, 0)));
    end_ = min(int64_t{item.chunk_end} * kAttentionChunk, last + 1);
    LoadQueries();
  }

  __device__ __forceinline__ void Run() {
    const int first = static_cast<int>(begin_ / kKeys);
    const int after = static_cast<int>((end_ + kKeys - 1) / kKeys);
    Clear();
    if (item_.partial < 0) ClearTotal();
    Load(first, &tiles_[0]);
    CommitCopies();
    for (int tile = first; tile < after; ++tile) {
      const int stage = (tile - first) % 2;
      if (tile + 1 < after) Load(tile + 1, &tiles_[1 - stage]);
      CommitCopies();  // an empty group keeps the count
      WaitForCopies<1>();
      __syncthreads();  // everybody's copies of this tile have landed
      // Queries of this warp may all lie before the tile.
      if (int64_t{tile} * kKeys <= last_position_) Add(tile, tiles_[stage]);
      const bool chunk_ends = (tile + 1) * kKeys % kAttentionChunk == 0 || tile + 1 == after;
      if (chunk_ends) EndChunk();
      __syncthreads();  // all have read this stage; the next round fills it
    }
    if (item_.partial < 0) StoreOut();
  }

 private:
  // This lane's queries: rows lane / 4 and lane / 4 + 8 of the warp's 16.
  __device__ __forceinline__ int QueryOf(int half) const {
    return warp_ * 16 + lane_ / 4 + 8 * half;
  }

  // Queries as 16-bit features: lane l brings features 8 * (l % 4) and on of each 32, as keys do.
  __device__ __forceinline__ void LoadQueries() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = QueryOf(half);
      const bool valid = query < item_.query_count;
      position_[half] = valid ? PositionOf(p_, item_, query) : -1;
      window_[half] = WindowBegin(p_, position_[half]);
      const float* q = static_cast<const float*>(p_.q.data);
      if (valid) {
        q += QueryRow(p_, item_, query) * p_.q.stride + QueryColumn(p_, item_, blockIdx.y, query);
      }
#pragma unroll
      for (int b = 0; b < kBlocks32; ++b) {
        const float* from = q + 32 * b + 8 * (lane_ % 4);
        uint32_t packed[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          packed[i] = valid ? Packed<T>::Pack(from[2 * i], from[2 * i + 1]) : 0u;
        }
        q_[b][half] = {packed[0], packed[1], packed[2], packed[3]};
      }
    }
    const int last = min(warp_ * 16 + 15, item_.query_count - 1);
    last_position_ = warp_ * 16 < item_.query_count ? PositionOf(p_, item_, last) : -1;
  }

  // Each warp brings kRowsOfWarp rows. Tokens outside [begin_, end_) become zeros: what lies in
  // pages that are not the sequence's must not be multiplied, not even with zero.
  __device__ __forceinline__ void Load(int tile, TokenTile<kD>* to) const {
    constexpr int kPlaces = (kRowsOfWarp + kWarp - 1) / kWarp;
    constexpr int kLanesOfRow = S::kChunks < kWarp ? S::kChunks : kWarp;
    constexpr int kRowsAtOnce = kWarp / kLanesOfRow;
    const int64_t origin = int64_t{tile} * kKeys + warp_ * kRowsOfWarp;
    int64_t places[kPlaces];
#pragma unroll
    for (int i = 0; i < kPlaces; ++i) {
      const int64_t token =
          origin + i * kWarp + lane_ % (kRowsOfWarp < kWarp ? kRowsOfWarp : kWarp);
      const bool valid = token >= begin_ && token < end_;
      places[i] = valid ? TokenPlace(p_, item_, blockIdx.y, token) : -1;
    }
    const int piece = lane_ % kLanesOfRow;
#pragma unroll
    for (int r = 0; r < kRowsOfWarp; r += kRowsAtOnce) {
      const int in_warp = r + lane_ / kLanesOfRow;
      const int64_t place = __shfl_sync(kAllLanes, places[r / kWarp], in_warp % kWarp);
      const bool valid = place >= 0;
      const int64_t offset = valid ? place + 8 * piece : 0;
      const int row = warp_ * kRowsOfWarp + in_warp;
      CopyAsync(&to->keys[TokenTile<kD>::KeyAt(row, piece)], static_cast<const T*>(p_.k) + offset,
                valid);
      CopyAsync(&to->values[TokenTile<kD>::ValueAt(row, piece)],
                static_cast<const T*>(p_.v) + offset, valid);
    }
  }

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int n = 0; n < kD / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) o_[n][i] = 0.0f;
    }
    m_[0] = m_[1] = -CUDART_INF_F;
    l_[0] = l_[1] = 0.0f;
  }

  __device__ __forceinline__ float2* TotalAt(int half, int n) {
    return reinterpret_cast<float2*>(total_ + (lane_ / 4 + 8 * half) * S::kTotalStride + 8 * n +
                                     2 * (lane_ % 4));
  }

  // A lane reads and writes its own places of the total alone, so nobody waits for it.
  __device__ __forceinline__ void ClearTotal() {
#pragma unroll
    for (int n = 0; n < kD / 8; ++n) {
      *TotalAt(0, n) = *TotalAt(1, n) = float2{0.0f, 0.0f};
    }
    total_m_[0] = total_m_[1] = -CUDART_INF_F;
    total_l_[0] = total_l_[1] = 0.0f;
  }

  __device__ __forceinline__ void Score(const TokenTile<kD>& tile, float (&s)[kKeys / 8][4]) const {
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] = 0.0f;
#pragma unroll
      for (int b = 0; b < kBlocks32; ++b) {
        const uint4 k = tile.keys[TokenTile<kD>::KeyAt(8 * n + lane_ / 4, 4 * b + lane_ % 4)];
        const uint4 low = q_[b][0], high = q_[b][1];
        Packed<T>::Mma(low.x, high.x, low.y, high.y, k.x, k.y, s[n]);
        Packed<T>::Mma(low.z, high.z, low.w, high.w, k.z, k.w, s[n]);
      }
    }
  }

  // Value i of step n is the score of query i / 2 and key 8 n + 2 (lane % 4) + i % 2.
  __device__ __forceinline__ void MaskScores(int64_t origin, float (&s)[kKeys / 8][4]) const {
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t token = origin + 8 * n + 2 * (lane_ % 4) + i % 2;
        const bool sees = token <= position_[i / 2] && token >= window_[i / 2];
        s[n][i] = sees ? ScaledScore(p_, s[n][i]) : -CUDART_INF_F;
      }
    }
  }

  __device__ __forceinline__ void Add(int tile_index, const TokenTile<kD>& tile) {
    float s[kKeys / 8][4];
    Score(tile, s);
    MaskScores(int64_t{tile_index} * kKeys, s);
    float keep[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float m = m_[half];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
        m = fmaxf(m, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
      }
      m = fmaxf(m, __shfl_xor_sync(kAllLanes, m, 1));
      m = fmaxf(m, __shfl_xor_sync(kAllLanes, m, 2));
      // Nothing seen yet: subtract zero, so that -infinity stays what it is and no NaN comes up.
      const float base = m == -CUDART_INF_F ? 0.0f : m;
      keep[half] = m_[half] == m ? 1.0f : exp2f((m_[half] - base) * kLog2E);
      m_[half] = m;
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          s[n][i] = exp2f((s[n][i] - base) * kLog2E);
          sum += s[n][i];
        }
      }
      l_[half] = l_[half] * keep[half] + sum;  // this lane's keys; lanes are summed at the end
    }
#pragma unroll
    for (int n = 0; n < kD / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) o_[n][i] *= keep[i / 2];
    }
    AddValues(tile, s);
  }

  // The weights of 16 keys are in the registers in which they are wanted as the left matrix.
  __device__ __forceinline__ void AddValues(const TokenTile<kD>& tile,
                                            const float (&s)[kKeys / 8][4]) {
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      const uint32_t a0 = Packed<T>::Pack(s[2 * k][0], s[2 * k][1]);
      const uint32_t a1 = Packed<T>::Pack(s[2 * k][2], s[2 * k][3]);
      const uint32_t a2 = Packed<T>::Pack(s[2 * k + 1][0], s[2 * k + 1][1]);
      const uint32_t a3 = Packed<T>::Pack(s[2 * k + 1][2], s[2 * k + 1][3]);
      // Matrices 0 and 1: keys 0-7 and 8-15 of eight columns; 2 and 3: of the next eight.
      const int row = 16 * k + lane_ % 16;
#pragma unroll
      for (int n = 0; n < kD / 16; ++n) {
        uint32_t v[4];
        LoadTransposed(&tile.values[TokenTile<kD>::ValueAt(row, 2 * n + lane_ / 16)], v);
        Packed<T>::Mma(a0, a1, a2, a3, v[0], v[1], o_[2 * n]);
        Packed<T>::Mma(a0, a1, a2, a3, v[2], v[3], o_[2 * n + 1]);
      }
    }
  }

  // The chunk's sums go to its partial or into the total, and start anew.
  __device__ __forceinline__ void EndChunk() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float l = l_[half];
      l += __shfl_xor_sync(kAllLanes, l, 1);
      l += __shfl_xor_sync(kAllLanes, l, 2);
      if (item_.partial >= 0) {
        StorePartial(half, l);
        continue;
      }
      const Joining joined = Join(total_m_[half], total_l_[half], m_[half], l);
#pragma unroll
      for (int n = 0; n < kD / 8; ++n) {
        float2* total = TotalAt(half, n);
        total->x = JoinValue(joined, total->x, o_[n][2 * half]);
        total->y = JoinValue(joined, total->y, o_[n][2 * half + 1]);
      }
      total_m_[half] = joined.m;
      total_l_[half] = joined.l;
    }
    Clear();
  }

  __device__ __forceinline__ void StorePartial(int half, float l) {
    const int query = QueryOf(half);
    if (query >= item_.query_count) return;
    float* partial = PartialAt(p_, item_.partial, blockIdx.y, query);
#pragma unroll
    for (int n = 0; n < kD / 8; ++n) {
      partial[8 * n + 2 * (lane_ % 4)] = o_[n][2 * half];
      partial[8 * n + 2 * (lane_ % 4) + 1] = o_[n][2 * half + 1];
    }
    if (lane_ % 4 == 0) {
      partial[kD] = m_[half];
      partial[kD + 1] = l;
    }
  }

  __device__ __forceinline__ void StoreOut() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = QueryOf(half);
      if (query >= item_.query_count) continue;
      const float inverse = 1.0f / total_l_[half];
      float* out = static_cast<float*>(p_.out.data) + QueryRow(p_, item_, query) * p_.out.stride +
                   QueryColumn(p_, item_, blockIdx.y, query);
#pragma unroll
      for (int n = 0; n < kD / 8; ++n) {
        const float2 total = *TotalAt(half, n);
        out[8 * n + 2 * (lane_ % 4)] = total.x * inverse;
        out[8 * n + 2 * (lane_ % 4) + 1] = total.y * inverse;
      }
    }
  }

  const AttentionParams& p_;
  const AttentionItem& item_;
  TokenTile<kD>* const tiles_;  // two
  const int warp_, lane_;
  float* total_;           // of this warp: [16, kTotalStride]; unused for a partial
  int64_t begin_, end_;    // tokens that some query of the block sees
  int64_t last_position_;  // of the warp's queries; -1 where it has none
  int64_t position_[2], window_[2];
  uint4 q_[kBlocks32][2];
  float o_[kD / 8][4];
  float m_[2], l_[2], total_m_[2], total_l_[2];
};

template <class T, int kD, int kWarps>
__global__ void __launch_bounds__(kWarps* kWarp)
    MmaKernel(const __grid_constant__ AttentionParams p) {
  CCOE_DYNAMIC_SHARED(uint4, memory);
  if (blockIdx.x >= *p.item_count) return;
  const AttentionItem item = p.items[blockIdx.x];
  MmaBlock<T, kD, kWarps>(p, item, reinterpret_cast<char*>(memory)).Run();
}

template <class T, int kD, int kWarps>
void LaunchMma(Launcher* launcher, LaunchShape shape, const AttentionParams& params) {
  static_assert(AttentionMmaShared(kD, kWarps, true) == 2 * sizeof(TokenTile<kD>));
  shape.block = kWarps * kWarp;
  shape.shared_bytes = AttentionMmaShared(kD, kWarps, params.partials != nullptr);
  launcher->Launch<MmaKernel<T, kD, kWarps>>(shape, params);
}

template <class T, int kD>
void LaunchMma(Launcher* launcher, const LaunchShape& shape, int warps,
               const AttentionParams& params) {
  if (warps == 1) return LaunchMma<T, kD, 1>(launcher, shape, params);
  LaunchMma<T, kD, 4>(launcher, shape, params);
}

template <int kD>
void LaunchMma(Launcher* launcher, const LaunchShape& shape, int warps,
               const AttentionParams& params) {
  if (params.dtype == DType::kF16) return LaunchMma<__half, kD>(launcher, shape, warps, params);
  LaunchMma<__nv_bfloat16, kD>(launcher, shape, warps, params);
}

}  // namespace attention_mma
}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_ATTENTION_MMA_CUH_
