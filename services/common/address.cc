#include "services/common/address.h"

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace ccoe::services {
namespace {

constexpr size_t kMaxHostLength = 255;  // of a DNS name

absl::Status Malformed(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("address \"", text.substr(0, kMaxHostLength), "\": ", why,
                   "; expected HOST:PORT, such as 127.0.0.1:8001 or [::1]:8001"));
}

bool IsHostCharacter(char c) {
  return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_' || c == ':' || c == '%';
}

}  // namespace

std::string HostPort::ToString() const {
  if (absl::StrContains(host, ':')) return absl::StrCat("[", host, "]:", port);
  return absl::StrCat(host, ":", port);
}

bool HostPort::IsLoopback() const {
  return host == "localhost" || host == "::1" || absl::StartsWith(host, "127.");
}

absl::StatusOr<HostPort> ParseHostPort(absl::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return Malformed(text, "no port");
  absl::string_view host = text.substr(0, colon);
  const absl::string_view port = text.substr(colon + 1);
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]")) return Malformed(text, "no closing bracket");
  } else if (absl::StrContains(host, ':')) {
    return Malformed(text, "an IPv6 host stands in brackets");
  }
  if (host.empty() || host.size() > kMaxHostLength) return Malformed(text, "no host");
  for (char c : host) {
    if (!IsHostCharacter(c)) return Malformed(text, "a character that no host has");
  }
  HostPort result;
  result.host = std::string(host);
  int32_t number = 0;
  if (port.empty() || !absl::ascii_isdigit(port[0]) || !absl::SimpleAtoi(port, &number) ||
      number > 65535) {
    return Malformed(text, "the port is not a number from 0 to 65535");
  }
  result.port = number;
  return result;
}

bool IsInProcess(absl::string_view address) { return absl::StartsWith(address, kInProcessPrefix); }

std::string InProcessName(absl::string_view address) {
  return std::string(absl::StripPrefix(address, kInProcessPrefix));
}

}  // namespace ccoe::services
