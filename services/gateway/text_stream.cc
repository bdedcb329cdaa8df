// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/text_stream.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"

namespace ccoe::services {
namespace {

std::vector<std::string> WithoutEmpty(std::vector<std::string> stops) {
  stops.erase(std::remove(stops.begin(), stops.end(), ""), stops.end());
  return stops;
}

}  // namespace

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(WithoutEmpty(std::move(stops))) {}

std::string StopFilter::Append(absl::string_view piece) {
  if (found_.has_value()) return "";
  held_.append(piece.data(), piece.size());
  size_t first_begin = 0;
  size_t first_end = std::string::npos;
  const std::string* first = nullptr;
  for (const std::string& stop : stops_) {
    const size_t begin = held_.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (first == nullptr || end < first_end || (end == first_end && begin < first_begin)) {
      first_begin = begin;
      first_end = end;
      first = &stop;
    }
  }
  if (first != nullptr) {
    found_ = *first;
    held_.resize(first_begin);
    return std::exchange(held_, "");
  }
  const size_t certain = held_.size() - PossibleBeginning();
  std::string text = held_.substr(0, certain);
  held_.erase(0, certain);
  return text;
}

std::string StopFilter::Finish() { return std::exchange(held_, ""); }

size_t StopFilter::PossibleBeginning() const {
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t size = std::min(stop.size() - 1, held_.size()); size > longest; --size) {
      if (held_.compare(held_.size() - size, size, stop, 0, size) == 0) longest = size;
    }
  }
  return longest;
}

std::string TextStream::Append(int32_t id) {
  absl::StatusOr<std::string> piece = decoder_.Append(id);
  return piece.ok() ? filter_.Append(*piece) : "";
}

std::string TextStream::Finish() {
  absl::StatusOr<std::string> piece = decoder_.Finish();
  std::string text = piece.ok() ? filter_.Append(*piece) : "";
  return text + filter_.Finish();
}

}  // namespace ccoe::services
