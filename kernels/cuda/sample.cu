// SPDX-License-Identifier: Apache-2.0
// One block a row. All that is added up are integers (sample_math.h), so sums depend neither on the
// order of threads nor on the batch; ids are found by radix selection and by prefix sums over
// rising ids, never by sorting.
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/sample.h"
#include "kernels/sample_math.h"

namespace ccoe::kernels {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarp;
static_assert(kWarps == kWarp);  // a warp reduces what the warps have
constexpr int kBins = kOrderBins;
static_assert(kBins == 2 * kThreads);
constexpr int32_t kLastId = 0x7fffffff;

struct Shared {
  uint32_t low[kBins], high[kBins];  // sums of 64 bits in two words
  uint64_t segments[kThreads];
  uint64_t warps[kWarps];
  uint64_t found_before, found_amount;
  int32_t found_place, found_id;
  int32_t gathered;
};

struct Add {
  __device__ __forceinline__ uint64_t operator()(uint64_t a, uint64_t b) const { return a + b; }
};
struct Max {
  __device__ __forceinline__ uint64_t operator()(uint64_t a, uint64_t b) const {
    return a > b ? a : b;
  }
};

template <class Combine>
__device__ __forceinline__ uint64_t WarpReduce(uint64_t x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x = Combine()(x, __shfl_xor_sync(kAllLanes, x, step));
  }
  return x;
}

// Of the lanes up to this one.
__device__ __forceinline__ uint64_t WarpScan(uint64_t x) {
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const uint64_t below = __shfl_up_sync(kAllLanes, x, step);
    if (threadIdx.x % kWarp >= step) x += below;
  }
  return x;
}

// Every thread gets the result. As in all functions here that take a Shared, all threads of the
// block call it, and it may be called again at once.
template <class Combine>
__device__ __forceinline__ uint64_t BlockReduce(uint64_t x, Shared& s) {
  x = WarpReduce<Combine>(x);
  if (threadIdx.x % kWarp == 0) s.warps[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = WarpReduce<Combine>(s.warps[threadIdx.x % kWarp]);
  __syncthreads();
  return x;
}

struct Prefix {
  uint64_t before, total;  // sums of the threads below this one, and of all
};

__device__ __forceinline__ Prefix BlockScan(uint64_t x, Shared& s) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const uint64_t up_to_here = WarpScan(x);
  if (lane == kWarp - 1) s.warps[warp] = up_to_here;
  __syncthreads();
  const uint64_t warps = WarpScan(s.warps[lane]);
  __syncthreads();
  const uint64_t warps_before = __shfl_sync(kAllLanes, warps, warp > 0 ? warp - 1 : 0);
  Prefix prefix;
  prefix.before = up_to_here - x + (warp > 0 ? warps_before : 0);
  prefix.total = __shfl_sync(kAllLanes, warps, kWarp - 1);
  return prefix;
}

// The id at which the sum of amount(id) over rising ids first exceeds target_of(sum of all), which
// is below that sum. Ids are cut into a segment a thread, summed by warps; the first warp walks
// through the one in question.
template <class Amount, class Target>
__device__ __forceinline__ int32_t FindInOrder(int32_t vocab, const Amount& amount,
                                               const Target& target_of, Shared& s) {
  const int32_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  constexpr int32_t kGrain = kThreads * kWarp;
  const int32_t length = (vocab + kGrain - 1) / kGrain * kWarp;
  for (int32_t segment = warp; segment < kThreads; segment += kWarps) {
    const int32_t end = min(vocab, (segment + 1) * length);
    uint64_t sum = 0;
    for (int32_t id = segment * length + lane; id < end; id += kWarp) sum += amount(id);
    sum = WarpReduce<Add>(sum);
    if (lane == 0) s.segments[segment] = sum;
  }
  __syncthreads();
  const uint64_t own = s.segments[threadIdx.x];
  const Prefix prefix = BlockScan(own, s);
  const uint64_t target = target_of(prefix.total);
  if (prefix.before <= target && target < prefix.before + own) {
    s.found_place = static_cast<int32_t>(threadIdx.x);
    s.found_before = prefix.before;
  }
  __syncthreads();
  if (warp == 0) {
    uint64_t before = s.found_before;
    const int32_t begin = s.found_place * length, end = min(vocab, begin + length);
    for (int32_t base = begin; base < end; base += kWarp) {
      const uint64_t x = base + lane < end ? amount(base + lane) : 0;
      const uint64_t sum = before + WarpScan(x);
      const unsigned hit = __ballot_sync(kAllLanes, sum > target);
      if (hit != 0) {  // the same in all lanes
        if (lane == 0) s.found_id = base + __ffs(static_cast<int>(hit)) - 1;
        break;
      }
      before = __shfl_sync(kAllLanes, sum, kWarp - 1);
    }
  }
  __syncthreads();
  return s.found_id;
}

// Ids above a place in the order of likelihood, and at it up to last_id.
struct Kept {
  uint32_t order;
  int32_t last_id;

  __device__ __forceinline__ bool Has(uint32_t o, int32_t id) const {
    return o > order || (o == order && id <= last_id);
  }
};

__device__ __forceinline__ void AddToBin(Shared& s, uint32_t bin, uint64_t x) {
  const uint32_t low = static_cast<uint32_t>(x);
  uint32_t high = static_cast<uint32_t>(x >> 32);
  // Whoever makes the low word wrap carries for it: in the end both words are right in any order.
  if (low != 0 && atomicAdd(&s.low[bin], low) > ~low) ++high;
  if (high != 0) atomicAdd(&s.high[bin], high);
}

__device__ __forceinline__ uint64_t BinOf(const Shared& s, int bin) {
  return static_cast<uint64_t>(s.high[bin]) << 32 | s.low[bin];
}

// The most likely ids whose amounts reach `wanted`, 1 <= wanted_of(sum of all) <= that sum.
// amount(order, id) is 0 or, for all ids of one order, each_of(order). Digit by digit of the order
// from the highest: which one the threshold has is where the sum from above reaches `wanted`.
template <class Amount, class Each, class Wanted>
__device__ __forceinline__ Kept Select(const float* row, int32_t vocab, const Amount& amount,
                                       const Each& each_of, const Wanted& wanted_of, Shared& s) {
  uint32_t order = 0, known = 0;  // the threshold's bits so far, and which they are
  uint64_t wanted = 0, above = 0, at = 0;
  for (int digit = 0; digit < kOrderDigits; ++digit) {
    const int shift = OrderShift(digit);
    const uint32_t mask = OrderMask(digit);
    for (int bin = threadIdx.x; bin < kBins; bin += kThreads) s.low[bin] = s.high[bin] = 0;
    __syncthreads();
    for (int32_t id = threadIdx.x; id < vocab; id += kThreads) {
      const uint32_t o = LogitOrder(row[id]);
      if ((o & known) != order) continue;
      const uint64_t x = amount(o, id);
      if (x != 0) AddToBin(s, (o >> shift) & mask, x);
    }
    __syncthreads();
    const int bin = kBins - 1 - 2 * static_cast<int>(threadIdx.x);  // and the one below
    const uint64_t first = BinOf(s, bin), second = BinOf(s, bin - 1);
    const Prefix prefix = BlockScan(first + second, s);
    if (digit == 0) wanted = wanted_of(prefix.total);
    const uint64_t before = above + prefix.before;
    if (before < wanted && wanted <= before + first + second) {
      const bool in_first = wanted <= before + first;
      s.found_place = in_first ? bin : bin - 1;
      s.found_before = in_first ? before : before + first;
      s.found_amount = in_first ? first : second;
    }
    __syncthreads();
    order |= static_cast<uint32_t>(s.found_place) << shift;
    known |= mask << shift;
    above = s.found_before;
    at = s.found_amount;
  }
  const uint64_t each = each_of(order);
  const uint64_t needed = (wanted - above + each - 1) / each;  // ids at the threshold
  if (needed * each >= at) return {order, kLastId};
  const auto is_there = [&](int32_t id) -> uint64_t {
    const uint32_t o = LogitOrder(row[id]);
    return o == order && amount(o, id) != 0 ? 1 : 0;
  };
  return {order, FindInOrder(
                     vocab, is_there, [&](uint64_t) { return needed - 1; }, s)};
}

// The `count` most likely ids, count < vocab.
__device__ __forceinline__ Kept SelectMost(const float* row, int32_t vocab, uint64_t count,
                                           Shared& s) {
  return Select(
      row, vocab, [](uint32_t, int32_t) -> uint64_t { return 1; },
      [](uint32_t) -> uint64_t { return 1; }, [&](uint64_t) { return count; }, s);
}

// The highest logit's order, and below it the complement of the lowest id that has it.
__device__ __forceinline__ uint64_t BestOf(const float* row, int32_t vocab, Shared& s) {
  uint64_t best = 0;
#pragma unroll 4
  for (int32_t id = threadIdx.x; id < vocab; id += kThreads) {
    const uint64_t key =
        static_cast<uint64_t>(LogitOrder(row[id])) << 32 | ~static_cast<uint32_t>(id);
    best = key > best ? key : best;
  }
  return BlockReduce<Max>(best, s);
}

// The same of finite logits, and the lowest id of one that is not, or -1.
__device__ __forceinline__ uint64_t BestOfFinite(const float* row, int32_t vocab,
                                                 int32_t* nonfinite_id, Shared& s) {
  uint64_t best = 0, bad = 0;
#pragma unroll 4
  for (int32_t id = threadIdx.x; id < vocab; id += kThreads) {
    const float logit = row[id];
    const uint64_t place = ~static_cast<uint32_t>(id);
    const uint64_t key = static_cast<uint64_t>(LogitOrder(logit)) << 32 | place;
    best = key > best ? key : best;
    if (IsNonFinite(logit) && place > bad) bad = place;
  }
  bad = BlockReduce<Max>(bad, s);
  *nonfinite_id = bad == 0 ? -1 : static_cast<int32_t>(~static_cast<uint32_t>(bad));
  return BlockReduce<Max>(best, s);
}

__device__ __forceinline__ void GatherBest(const SampleParams& p, const SampleRowParams& r,
                                           Shared& s) {
  const float* row = r.logits;
  Kept kept = {0, kLastId};
  if (r.logprobs < p.vocab) kept = SelectMost(row, p.vocab, r.logprobs, s);
  if (threadIdx.x == 0) s.gathered = 0;
  __syncthreads();
  SampledLogit* best = p.best + r.best_begin;
  for (int32_t id = threadIdx.x; id < p.vocab; id += kThreads) {
    const float logit = row[id];
    if (!kept.Has(LogitOrder(logit), id)) continue;
    const int32_t place = atomicAdd(&s.gathered, 1);
    if (place < r.logprobs) best[place] = {id, logit};
  }
}

// r.adjusted becomes the row after penalties, without the ids held back.
__device__ __forceinline__ void Adjust(const SampleParams& p, const SampleRowParams& r) {
  float* adjusted = r.adjusted;
  const float* logits = r.logits;
  for (int32_t id = threadIdx.x; id < p.vocab; id += kThreads) adjusted[id] = logits[id];
  __syncthreads();
  const int64_t counts_end = r.counts_end, held_back_end = r.held_back_end;
  for (int64_t i = r.counts_begin + threadIdx.x; i < counts_end; i += kThreads) {
    const TokenCount count = p.counts[i];
    adjusted[count.id] = Penalized(adjusted[count.id], count.answer_count, r.repetition_penalty,
                                   r.presence_penalty, r.frequency_penalty);
  }
  __syncthreads();
  for (int64_t i = r.held_back_begin + threadIdx.x; i < held_back_end; i += kThreads) {
    adjusted[p.held_back[i]] = -CUDART_INF_F;
  }
  __syncthreads();
}

__device__ __forceinline__ int32_t Draw(const SampleRowParams& r, const float* row, float max_logit,
                                        int32_t vocab, Shared& s) {
  const float temperature = r.temperature;
  Kept kept = {0, kLastId};
  if (r.top_k > 0) kept = SelectMost(row, vocab, r.top_k, s);
  if (r.has_top_p != 0) {
    const Kept top_p = Select(
        row, vocab,
        [&](uint32_t o, int32_t id) -> uint64_t {
          return kept.Has(o, id) ? WeightOf(LogitAt(o), max_logit, temperature) : 0;
        },
        [&](uint32_t o) { return WeightOf(LogitAt(o), max_logit, temperature); },
        [&](uint64_t total) { return PartAtLeast(r.top_p, total); }, s);
    // Where both end at one order, top-k's last id still holds.
    const int32_t last =
        top_p.order == kept.order ? min(top_p.last_id, kept.last_id) : top_p.last_id;
    kept = {top_p.order, last};
  }
  const uint64_t least = r.min_weight;
  const auto weight = [&](int32_t id) -> uint64_t {
    const float logit = row[id];
    if (!kept.Has(LogitOrder(logit), id)) return 0;
    const uint64_t w = WeightOf(logit, max_logit, temperature);
    return w >= least ? w : 0;
  };
  return FindInOrder(
      vocab, weight, [&](uint64_t total) { return PartBelow(r.uniform, total); }, s);
}

__device__ __forceinline__ uint64_t TotalWeight(const float* row, float max_logit, int32_t vocab,
                                                Shared& s) {
  uint64_t sum = 0;
  for (int32_t id = threadIdx.x; id < vocab; id += kThreads) {
    sum += WeightOf(row[id], max_logit, 1.0f);
  }
  return BlockReduce<Add>(sum, s);
}

// Every branch around a call that synchronises is the same for the whole block.
__global__ void __launch_bounds__(kThreads) SampleKernel(const SampleParams p) {
  __shared__ Shared s;
  const SampleRowParams& r = p.rows[blockIdx.x];
  SampleRowResult result = {-1, -1, 0.0f, 0.0f, 0};
  uint64_t best = BestOfFinite(r.logits, p.vocab, &result.nonfinite_id, s);
  if (result.nonfinite_id < 0) {
    result.max_logit = LogitAt(static_cast<uint32_t>(best >> 32));
    if (r.logprobs >= 0) result.total = TotalWeight(r.logits, result.max_logit, p.vocab, s);
    if (r.logprobs > 0) GatherBest(p, r, s);
    const float* row = r.logits;
    if (r.adjusted != nullptr) {
      Adjust(p, r);
      row = r.adjusted;
      best = BestOf(row, p.vocab, s);
    }
    const float max_logit = LogitAt(static_cast<uint32_t>(best >> 32));
    if (max_logit != -CUDART_INF_F) {
      result.token_id = r.temperature > 0.0f ? Draw(r, row, max_logit, p.vocab, s)
                                             : static_cast<int32_t>(~static_cast<uint32_t>(best));
      result.token_logit = r.logits[result.token_id];
    }
  }
  if (threadIdx.x == 0) p.results[blockIdx.x] = result;
}

}  // namespace

void CudaSample(Launcher* launcher, const SampleParams& params) {
  LaunchShape shape;
  shape.grid_x = params.row_count;
  shape.block = kThreads;
  launcher->Launch<SampleKernel>(shape, params);
}

}  // namespace ccoe::kernels
