#include "runtime/tokenizer/streaming_decoder.h"

#include <utility>

#include "runtime/base/status_macros.h"

namespace ccoe::tokenizer {

absl::StatusOr<std::string> StreamingDecoder::Append(int64_t id) {
  if (stream_ == nullptr) return absl::FailedPreconditionError("the text has been finished");
  CCOE_ASSIGN_OR_RETURN(const std::string* token, tokenizer_.TokenForDecoding(id, skip_special_));
  if (token == nullptr) return std::string();
  return stream_->Append(*token);
}

absl::StatusOr<std::string> StreamingDecoder::Finish() {
  if (stream_ == nullptr) return absl::FailedPreconditionError("the text has been finished");
  const std::unique_ptr<DecodeStream> stream = std::move(stream_);
  return stream->Finish();
}

}  // namespace ccoe::tokenizer
