#include "services/cli/byte_size.h"

#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ccoe::cli {
namespace {

constexpr std::pair<const char*, double> kUnits[] = {
    {"", 1.0},
    {"B", 1.0},
    {"KB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
    {"KiB", 1024.0},
    {"MiB", 1024.0 * 1024},
    {"GiB", 1024.0 * 1024 * 1024},
    {"TiB", 1024.0 * 1024 * 1024 * 1024},
};

}  // namespace

absl::StatusOr<int64_t> ParseByteSize(absl::string_view text) {
  const size_t digits = text.find_first_not_of("0123456789.");
  const absl::string_view number = text.substr(0, digits);
  const absl::string_view unit = absl::StripAsciiWhitespace(
      digits == absl::string_view::npos ? absl::string_view() : text.substr(digits));
  double value = 0;
  for (const auto& [name, bytes] : kUnits) {
    if (unit != name || !absl::SimpleAtod(number, &value)) continue;
    value *= bytes;
    if (value > 1e18) break;
    return static_cast<int64_t>(std::llround(value));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "expected a number of bytes such as \"12GiB\", \"800MB\" or \"4096\", found \"", text, "\""));
}

std::string ByteSizeText(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 1e12) return absl::StrFormat("%.3g TB", value / 1e12);
  if (value >= 1e9) return absl::StrFormat("%.3g GB", value / 1e9);
  if (value >= 1e6) return absl::StrFormat("%.3g MB", value / 1e6);
  if (value >= 1e3) return absl::StrFormat("%.3g kB", value / 1e3);
  return absl::StrCat(bytes, " B");
}

}  // namespace ccoe::cli
