// Sizes of memory as people write them.
#ifndef CCOE_SERVICES_CLI_BYTE_SIZE_H_
#define CCOE_SERVICES_CLI_BYTE_SIZE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::cli {

// "12GiB", "1.5 GB", "800MB", "4096": whole bytes; K, M, G, T with "B" are powers of 1000, with
// "iB" of 1024. INVALID_ARGUMENT quotes what is none.
absl::StatusOr<int64_t> ParseByteSize(absl::string_view text);

// "12.9 GB": three digits.
std::string ByteSizeText(int64_t bytes);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BYTE_SIZE_H_
