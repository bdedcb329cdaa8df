#include "runtime/model/kv_pages.h"

#include <cstddef>
#include <limits>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace ccoe::model {

KvPages::KvPages(int64_t pages, int64_t page_tokens) : page_tokens_(page_tokens) {
  CCOE_CHECK(pages >= 0 && pages <= std::numeric_limits<int32_t>::max());
  CCOE_CHECK(page_tokens >= 1);
  in_use_.resize(pages, false);
  free_.reserve(pages);
  for (int64_t page = pages - 1; page >= 0; --page) free_.push_back(static_cast<int32_t>(page));
}

absl::Status KvPages::Grow(int64_t tokens, BlockTable& table) {
  const int64_t held = static_cast<int64_t>(table.size());
  const int64_t missing = PagesFor(tokens) - held;
  if (missing <= 0) return absl::OkStatus();
  if (missing > free_pages()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("out of KV pages: ", tokens, " tokens need ", missing, " more pages of ",
                     page_tokens_, " tokens, ", free_pages(), " of ", pages(), " are free"));
  }
  table.reserve(table.size() + missing);
  for (int64_t i = 0; i < missing; ++i) {
    const int32_t page = free_.back();
    free_.pop_back();
    in_use_[page] = true;
    table.push_back(page);
  }
  return absl::OkStatus();
}

void KvPages::Shrink(int64_t tokens, BlockTable& table) {
  const size_t keep = static_cast<size_t>(PagesFor(tokens));
  while (table.size() > keep) {
    const int32_t page = table.back();
    table.pop_back();
    CCOE_CHECK(page >= 0 && page < pages() && in_use_[page]);
    in_use_[page] = false;
    free_.push_back(page);
  }
}

}  // namespace ccoe::model
