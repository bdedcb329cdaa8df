// Ends a text at the first of some stop strings, however the text is cut into pieces.
#ifndef CCOE_SERVICES_GATEWAY_STOP_FILTER_H_
#define CCOE_SERVICES_GATEWAY_STOP_FILTER_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace ccoe::services {

// Pieces go in, text that can no longer be part of a stop string comes out. The first stop string
// is the one that is complete first, reading character by character (of several that end at the
// same place, the longest): so it does not depend on how the text was cut. Whole characters in give
// whole characters out. Not thread-safe.
class StopFilter {
 public:
  // Empty strings among `stops` are ignored.
  explicit StopFilter(std::vector<std::string> stops);

  // The text that is certain with this piece. Nothing more once a stop string was found.
  std::string Append(absl::string_view piece);

  // What was held back, when nothing follows.
  std::string Finish();

  // The stop string that was found.
  const std::optional<std::string>& found() const { return found_; }

 private:
  // Bytes at the end of held_ that may be the beginning of a stop string.
  size_t PossibleBeginning() const;

  const std::vector<std::string> stops_;
  std::string held_;
  std::optional<std::string> found_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_STOP_FILTER_H_
