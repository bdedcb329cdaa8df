// Which page of a KvStorage belongs to whom: a fixed number of pages, handed out to block tables.
// Pure bookkeeping, used by the engine on the backbone worker and by each layer expert on an expert
// worker.
#ifndef CCOE_RUNTIME_MODEL_KV_PAGES_H_
#define CCOE_RUNTIME_MODEL_KV_PAGES_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace ccoe::model {

// The pages of one sequence in order: entry i holds tokens [i * page_tokens, (i + 1) *
// page_tokens). What kernels::SequenceRows::block_table views.
using BlockTable = std::vector<int32_t>;

// Not thread-safe.
class KvPages {
 public:
  // `pages` >= 0 of `page_tokens` >= 1 tokens each, numbered from 0, all free.
  KvPages(int64_t pages, int64_t page_tokens);

  // Grows `table` until it holds `tokens` tokens (a table that is large enough stays as it is).
  // RESOURCE_EXHAUSTED with nothing changed where too few pages are free. Pages freed last are
  // taken first, fresh ones from 0 up, so that memory that was never needed is never touched.
  absl::Status Grow(int64_t tokens, BlockTable& table);

  // Frees the pages of `table` that hold no token below `tokens`; 0 frees all.
  void Shrink(int64_t tokens, BlockTable& table);
  void Free(BlockTable& table) { Shrink(0, table); }

  // Pages that `tokens` tokens take.
  int64_t PagesFor(int64_t tokens) const { return (tokens + page_tokens_ - 1) / page_tokens_; }

  // Whether Grow(tokens, table) would succeed.
  bool CanGrow(int64_t tokens, const BlockTable& table) const {
    return PagesFor(tokens) - static_cast<int64_t>(table.size()) <= free_pages();
  }

  int64_t pages() const { return static_cast<int64_t>(in_use_.size()); }
  int64_t page_tokens() const { return page_tokens_; }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  int64_t used_pages() const { return pages() - free_pages(); }

 private:
  const int64_t page_tokens_;
  std::vector<int32_t> free_;  // taken from the back
  std::vector<bool>
      in_use_;  // by page: a page freed twice is a bug that would mix up two sequences
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_KV_PAGES_H_
