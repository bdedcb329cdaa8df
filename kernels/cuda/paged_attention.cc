// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/paged_attention.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/check_shapes.h"
#include "kernels/cuda/attention.h"
#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

bool Aligned16(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// Sizes that depend on contexts grow in powers of two, so that captured steps rarely change.
int64_t Bucket(int64_t size) {
  int64_t bucket = 1;
  while (bucket < size) bucket *= 2;
  return bucket;
}

// Blocks a multiprocessor is given at least, where contexts can be split for it.
constexpr int64_t kSplitBlocks = 4;
constexpr int64_t kMmaTileQueries = 64;

// Four warps share tiles of keys, where a block of them fits the device (heads of 256 on 8.6 do
// not). A query has the same bits in either.
int MmaWarps(int64_t head_dim, int64_t queries, size_t shared_limit) {
  return queries > 16 && AttentionMmaShared(head_dim, 4, /*partials=*/false) <= shared_limit ? 4
                                                                                             : 1;
}

// Of partials of one piece.
int64_t BytesOfPiece(int64_t kv_heads, int64_t queries, int64_t head_dim) {
  return kv_heads * queries * (head_dim + 2) * static_cast<int64_t>(sizeof(float));
}

class AttentionCall {
 public:
  AttentionCall(Stream* stream, bool tensor_cores, const PagedAttentionArgs& args)
      : stream_(stream),
        args_(args),
        group_(args.heads / args.cache.kv_heads),
        mma_(tensor_cores && AttentionMmaTakes(args.cache.dtype, args.cache.head_dim) &&
             Aligned16(args.cache.k) && Aligned16(args.cache.v)) {
    int64_t most_queries = 0;
    for (const SequenceRows& sequence : args.sequences) {
      most_queries = std::max(most_queries, sequence.row_count * group_);
      most_pages_ = std::max(most_pages_, static_cast<int64_t>(sequence.block_table.size()));
    }
    if (mma_) {
      warps_ = MmaWarps(args.cache.head_dim, most_queries, stream->shared_limit());
      tile_ = 16 * warps_;
    } else {
      tile_ = AttentionGeneralQueries(args.cache.head_dim);
    }
    layout_queries_ = Bucket(std::min(tile_, most_queries));
    most_pages_ = Bucket(most_pages_);
  }

  void Run() {
    MakeItems();
    if (items_.empty()) return;
    int64_t most_chunks = 0, chunks = 0;
    for (const AttentionItem& item : items_) {
      most_chunks = std::max<int64_t>(most_chunks, item.chunk_end - item.chunk_begin);
      chunks += item.chunk_end - item.chunk_begin;
    }
    const int64_t blocks = static_cast<int64_t>(items_.size()) * args_.cache.kv_heads;
    const bool split = most_chunks > 1 && blocks < kSplitBlocks * stream_->multiprocessors() &&
                       PartialBytes(Bucket(chunks)) <= kMaxPartialBytes;
    if (!split) {
      for (AttentionItem& item : items_) item.partial = -1;
      return Launch({}, 0);
    }
    std::vector<AttentionItem> pieces;
    pieces.reserve(chunks);
    for (AttentionItem& item : items_) {
      item.partial = static_cast<int32_t>(pieces.size());
      for (int32_t chunk = item.chunk_begin; chunk < item.chunk_end; ++chunk) {
        AttentionItem& piece = pieces.emplace_back(item);
        piece.chunk_begin = chunk;
        piece.chunk_end = chunk + 1;
        piece.partial = static_cast<int32_t>(pieces.size()) - 1;
      }
    }
    Launch(pieces, Bucket(chunks));
  }

 private:
  int64_t PartialBytes(int64_t pieces) const {
    return pieces * BytesOfPiece(args_.cache.kv_heads, layout_queries_, args_.cache.head_dim);
  }
  int64_t ChunkOf(int64_t position) const { return position / kAttentionChunk; }

  void MakeItems() {
    for (size_t s = 0; s < args_.sequences.size(); ++s) {
      const SequenceRows& sequence = args_.sequences[s];
      const int64_t queries = sequence.row_count * group_;
      // Late rows see most, so they go first and the short items fill the end.
      for (int64_t at = (queries - 1) / tile_ * tile_; at >= 0 && queries > 0; at -= tile_) {
        const int64_t count = std::min(tile_, queries - at);
        const int64_t first = sequence.first_position + at / group_;
        const int64_t last = sequence.first_position + (at + count - 1) / group_;
        const int64_t seen =
            args_.sliding_window > 0 ? std::max<int64_t>(0, first - args_.sliding_window + 1) : 0;
        AttentionItem& item = items_.emplace_back();
        item.row_begin = static_cast<int32_t>(sequence.row_begin);
        item.first_position = static_cast<int32_t>(sequence.first_position);
        item.query_begin = static_cast<int32_t>(at);
        item.query_count = static_cast<int32_t>(count);
        item.table_begin = static_cast<int32_t>(s * most_pages_);
        item.chunk_begin = static_cast<int32_t>(ChunkOf(seen));
        item.chunk_end = static_cast<int32_t>(ChunkOf(last) + 1);
      }
    }
  }

  AttentionParams MakeParams() const {
    AttentionParams params;
    ClearParams(&params);
    SetView(args_.q, &params.q);
    SetView(args_.out, &params.out);
    params.k = args_.cache.k;
    params.v = args_.cache.v;
    params.dtype = args_.cache.dtype;
    params.page_tokens = args_.cache.page_tokens;
    params.kv_heads = args_.cache.kv_heads;
    params.head_dim = args_.cache.head_dim;
    params.group = group_;
    params.sliding_window = args_.sliding_window;
    params.scale = args_.scale;
    params.soft_cap = args_.soft_cap;
    params.query_tile = static_cast<int32_t>(layout_queries_);
    return params;
  }

  // Items, and how many there are, in `bucket` places.
  void PlaceItems(HostArrays* arrays, absl::Span<const AttentionItem> items, int64_t bucket,
                  AttentionParams* params) const {
    AttentionItem* host = arrays->Place<AttentionItem>(bucket, &params->items);
    std::copy(items.begin(), items.end(), host);
    *arrays->Place<int32_t>(1, &params->item_count) = static_cast<int32_t>(items.size());
  }

  void PlaceTables(HostArrays* arrays, AttentionParams* params) const {
    int32_t* table = arrays->Place<int32_t>(
        static_cast<int64_t>(args_.sequences.size()) * most_pages_, &params->tables);
    for (const SequenceRows& sequence : args_.sequences) {
      std::copy(sequence.block_table.begin(), sequence.block_table.end(), table);
      std::fill(table + sequence.block_table.size(), table + most_pages_, 0);
      table += most_pages_;
    }
  }

  // Runs `pieces` into partials and joins them; without pieces, the items straight to out.
  void Launch(absl::Span<const AttentionItem> pieces, int64_t piece_bucket) {
    AttentionParams params = MakeParams();
    const int64_t item_bucket = Bucket(static_cast<int64_t>(items_.size()));
    if (!pieces.empty()) {
      params.partials = reinterpret_cast<float*>(stream_->Workspace(PartialBytes(piece_bucket)));
      if (params.partials == nullptr) return;
    }
    HostArrays arrays(stream_);
    arrays.Room<AttentionItem>(item_bucket);
    arrays.Room<int32_t>(1);
    arrays.Room<AttentionItem>(piece_bucket);
    arrays.Room<int32_t>(1);
    arrays.Room<int32_t>(static_cast<int64_t>(args_.sequences.size()) * most_pages_);
    if (!arrays.Make()) return;
    PlaceTables(&arrays, &params);
    AttentionParams joining = params;
    PlaceItems(&arrays, items_, item_bucket, &joining);
    if (!pieces.empty()) PlaceItems(&arrays, pieces, piece_bucket, &params);
    // Layers of one kind cut the same sequences up in the same way: of a captured step they have
    // one copy.
    const int64_t moved = arrays.SendOnce();
    MoveArrays(moved, &params);
    MoveArrays(moved, &joining);
    if (pieces.empty()) return RunKernel(joining, item_bucket);
    RunKernel(params, piece_bucket);
    CudaAttentionCombine(stream_, joining, item_bucket);
  }

  static void MoveArrays(int64_t bytes, AttentionParams* params) {
    const auto move = [bytes]<class T>(const T** array) {
      if (*array == nullptr) return;
      *array = reinterpret_cast<const T*>(reinterpret_cast<const char*>(*array) + bytes);
    };
    move(&params->items);
    move(&params->item_count);
    move(&params->tables);
  }

  void RunKernel(const AttentionParams& params, int64_t items) {
    if (mma_) return CudaAttentionMma(stream_, params, items, warps_);
    CudaAttentionGeneral(stream_, params, items);
  }

  Stream* const stream_;
  const PagedAttentionArgs& args_;
  const int64_t group_;  // heads of a KV head
  const bool mma_;
  int warps_ = 1;
  int64_t tile_ = 0;            // queries of an item
  int64_t layout_queries_ = 0;  // in partials
  int64_t most_pages_ = 1;
  std::vector<AttentionItem> items_;
};

}  // namespace

AttentionMemory AttentionMemoryFor(const OpShapes::Attention& shape, int multiprocessors) {
  AttentionMemory memory;
  if (shape.rows == 0) return memory;
  const int64_t general = AttentionGeneralQueries(shape.head_dim);
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t chunks = CeilDiv(shape.tokens, kAttentionChunk);
  // Of the smallest tiles there are. Split: fewer than kSplitBlocks blocks a multiprocessor.
  const int64_t items =
      CeilDiv(shape.rows * group, std::min<int64_t>(general, 16)) + shape.sequences;
  const int64_t split_items =
      std::min(items, CeilDiv(kSplitBlocks * multiprocessors, shape.kv_heads));
  const int64_t pieces = Bucket(split_items * chunks);
  const int64_t largest =
      BytesOfPiece(shape.kv_heads, Bucket(std::max(general, kMmaTileQueries)), shape.head_dim);
  memory.workspace = std::min(pieces * largest, kMaxPartialBytes);
  const int64_t most_pieces = std::min(
      pieces, kMaxPartialBytes / BytesOfPiece(shape.kv_heads, /*queries=*/1, shape.head_dim));
  const int64_t pages = Bucket(CeilDiv(shape.tokens, shape.page_tokens));
  memory.arrays = (Bucket(items) + most_pieces) * static_cast<int64_t>(sizeof(AttentionItem)) +
                  shape.sequences * pages * static_cast<int64_t>(sizeof(int32_t)) + 256;
  return memory;
}

void CudaPagedAttention(Stream* stream, bool tensor_cores, const PagedAttentionArgs& args) {
  CheckShapes(args);
  CCOE_CHECK(args.cache.head_dim <= kMaxHeadDim);
  if (args.sequences.empty()) return;
  AttentionCall(stream, tensor_cores, args).Run();
}

}  // namespace ccoe::kernels
