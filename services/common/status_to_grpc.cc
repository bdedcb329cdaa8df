// SPDX-License-Identifier: Apache-2.0
#include "services/common/status_to_grpc.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/retry_hint.h"

namespace ccoe::services {
namespace {

bool IsContinuationByte(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

std::string CutMessage(absl::string_view message) {
  if (message.size() <= kMaxStatusMessageBytes) return std::string(message);
  size_t end = kMaxStatusMessageBytes;
  while (end > 0 && IsContinuationByte(message[end])) --end;
  return std::string(message.substr(0, end));
}

// gRPC and abseil number the codes alike; anything outside is not one of them.
bool IsKnownCode(int code) { return code >= 0 && code <= 16; }

std::optional<absl::Duration> ParseDelay(absl::string_view text) {
  int64_t ms = 0;
  if (!absl::SimpleAtoi(text, &ms) || ms < 0) return std::nullopt;
  return absl::Milliseconds(std::clamp<int64_t>(ms, 1, kLongestRetryMs));
}

}  // namespace

absl::Status WithRetryAfter(absl::Status status, absl::Duration delay) {
  return WithRetryHint(std::move(status), delay);
}

std::optional<absl::Duration> RetryAfter(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryAfterPayload);
  if (!payload.has_value()) return std::nullopt;
  return ParseDelay(std::string(*payload));
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const int code = static_cast<int>(status.code());
  const auto grpc_code =
      IsKnownCode(code) ? static_cast<grpc::StatusCode>(code) : grpc::StatusCode::UNKNOWN;
  return grpc::Status(grpc_code, CutMessage(status.message()));
}

grpc::Status ToGrpc(const absl::Status& status, grpc::ServerContextBase* context) {
  if (const auto delay = RetryAfter(status); delay.has_value()) {
    context->AddTrailingMetadata(kRetryAfterTrailer,
                                 absl::StrCat(absl::ToInt64Milliseconds(*delay)));
  }
  return ToGrpc(status);
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int code = static_cast<int>(status.error_code());
  const auto absl_code =
      IsKnownCode(code) ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown;
  return absl::Status(absl_code, status.error_message());
}

absl::Status FromGrpc(const grpc::Status& status, const grpc::ClientContext& context) {
  absl::Status result = FromGrpc(status);
  if (result.ok()) return result;
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto found = trailers.find(kRetryAfterTrailer);
  if (found == trailers.end()) return result;
  const auto delay = ParseDelay(absl::string_view(found->second.data(), found->second.size()));
  return delay.has_value() ? WithRetryAfter(result, *delay) : result;
}

}  // namespace ccoe::services
