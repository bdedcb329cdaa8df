#include "services/gateway/text_stream.h"

#include "absl/status/statusor.h"

namespace ccoe::services {

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
