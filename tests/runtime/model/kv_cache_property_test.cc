// SPDX-License-Identifier: Apache-2.0
// Whatever sequences take and give back: no page has two owners, and none is lost.
#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "rapidcheck/gtest.h"
#include "runtime/model/kv_cache.h"

namespace ccoe::model {
namespace {

// Each page within the range, in one table at most, and counted.
void CheckOwners(const KvPages& pages, const std::vector<BlockTable>& tables) {
  std::set<int32_t> owned;
  for (const BlockTable& table : tables) {
    for (const int32_t page : table) {
      RC_ASSERT(page >= 0 && page < pages.pages());
      RC_ASSERT(owned.insert(page).second);
    }
  }
  RC_ASSERT(pages.used_pages() == static_cast<int64_t>(owned.size()));
  RC_ASSERT(pages.free_pages() + pages.used_pages() == pages.pages());
}

// Takes what is missing, or nothing where there is too little; what was held stays in its place.
void Grow(KvPages& pages, int64_t tokens, BlockTable& table) {
  const BlockTable before = table;
  const int64_t free = pages.free_pages();
  const auto wanted = static_cast<size_t>(pages.PagesFor(tokens));
  const bool can = pages.CanGrow(tokens, table);
  RC_ASSERT(can == (wanted <= before.size() + static_cast<size_t>(free)));
  const absl::Status grown = pages.Grow(tokens, table);
  RC_ASSERT(grown.ok() == can);
  RC_ASSERT(can || grown.code() == absl::StatusCode::kResourceExhausted);
  RC_ASSERT(table.size() == (can ? std::max(wanted, before.size()) : before.size()));
  RC_ASSERT(std::equal(before.begin(), before.end(), table.begin()));
}

// Keeps the first ones.
void Shrink(KvPages& pages, int64_t tokens, BlockTable& table) {
  const BlockTable before = table;
  pages.Shrink(tokens, table);
  RC_ASSERT(table.size() == std::min(before.size(), static_cast<size_t>(pages.PagesFor(tokens))));
  RC_ASSERT(std::equal(table.begin(), table.end(), before.begin()));
}

RC_GTEST_PROP(KvPagesPropertyTest, EveryPageHasOneOwnerAndComesBack, ()) {
  KvPages pages(*rc::gen::inRange<int64_t>(0, 40).as("pages"),
                *rc::gen::inRange<int64_t>(1, 9).as("page_tokens"));
  const int64_t most = (pages.pages() + 2) * pages.page_tokens();
  std::vector<BlockTable> tables(4);
  const int steps = *rc::gen::inRange(0, 60).as("steps");
  for (int i = 0; i < steps; ++i) {
    BlockTable& table = tables[*rc::gen::inRange<size_t>(0, tables.size()).as("table")];
    const int64_t tokens = *rc::gen::inRange<int64_t>(0, most).as("tokens");
    if (*rc::gen::inRange(0, 3).as("0, 1: grow, 2: shrink") < 2) {
      Grow(pages, tokens, table);
    } else {
      Shrink(pages, tokens, table);
    }
    CheckOwners(pages, tables);
  }
  for (BlockTable& table : tables) pages.Free(table);
  CheckOwners(pages, tables);
  RC_ASSERT(pages.free_pages() == pages.pages());
  // And all can be had again.
  RC_ASSERT(pages.Grow(pages.pages() * pages.page_tokens(), tables[0]).ok());
  CheckOwners(pages, tables);
  RC_ASSERT(pages.free_pages() == 0);
}

}  // namespace
}  // namespace ccoe::model
