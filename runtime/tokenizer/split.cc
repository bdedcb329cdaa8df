#include "runtime/tokenizer/split.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::tokenizer {
namespace {

struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool delimiter = false;
};

// The whole of a text as delimiters and what lies between them.
std::vector<Span> Cover(const std::vector<Pattern::Match>& matches, size_t size, bool invert) {
  std::vector<Span> spans;
  size_t done = 0;
  for (const Pattern::Match& match : matches) {
    if (match.begin > done) spans.push_back({done, match.begin, invert});
    spans.push_back({match.begin, match.end, !invert});
    done = match.end;
  }
  if (done < size) spans.push_back({done, size, invert});
  return spans;
}

// Whether a span joins the one that was looked at before it.
bool Joins(SplitBehavior behavior, bool delimiter, bool previous_delimiter) {
  if (behavior == SplitBehavior::kContiguous) return delimiter == previous_delimiter;
  return delimiter && !previous_delimiter;
}

std::vector<Span> Merge(const std::vector<Span>& spans, SplitBehavior behavior) {
  std::vector<Span> merged;
  bool previous = false;
  for (const Span& span : spans) {
    if (!merged.empty() && Joins(behavior, span.delimiter, previous)) {
      merged.back().begin = std::min(merged.back().begin, span.begin);
      merged.back().end = std::max(merged.back().end, span.end);
    } else {
      merged.push_back(span);
    }
    previous = span.delimiter;
  }
  return merged;
}

}  // namespace

absl::StatusOr<SplitBehavior> ParseSplitBehavior(const std::string& name,
                                                 const std::string& where) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return absl::InvalidArgumentError(
      absl::StrCat(where,
                   ".behavior: expected Removed, Isolated, MergedWithPrevious, MergedWithNext or "
                   "Contiguous, found '",
                   name, "'"));
}

absl::StatusOr<std::vector<absl::string_view>> Split(absl::string_view text,
                                                     const SplitRule& rule) {
  CCOE_ASSIGN_OR_RETURN(const std::vector<Pattern::Match> matches, rule.pattern.FindAll(text));
  std::vector<Span> spans = Cover(matches, text.size(), rule.invert);
  switch (rule.behavior) {
    case SplitBehavior::kRemoved:
      spans.erase(std::remove_if(spans.begin(), spans.end(),
                                 [](const Span& span) { return span.delimiter; }),
                  spans.end());
      break;
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kMergedWithNext:
      std::reverse(spans.begin(), spans.end());
      spans = Merge(spans, rule.behavior);
      std::reverse(spans.begin(), spans.end());
      break;
    case SplitBehavior::kMergedWithPrevious:
    case SplitBehavior::kContiguous:
      spans = Merge(spans, rule.behavior);
      break;
  }
  std::vector<absl::string_view> pieces;
  pieces.reserve(spans.size());
  for (const Span& span : spans) {
    if (span.end > span.begin) pieces.push_back(text.substr(span.begin, span.end - span.begin));
  }
  return pieces;
}

}  // namespace ccoe::tokenizer
