// Whole files: bounded reads, and writes that appear at once or not at all.
#ifndef CCOE_RUNTIME_BASE_FILE_H_
#define CCOE_RUNTIME_BASE_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace ccoe {

bool FileExists(const std::string& path);

// The content of a regular file. NOT_FOUND, INVALID_ARGUMENT (no regular file, or larger than
// `max_bytes`), UNAVAILABLE (cannot be read); the message names the path.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes);

// Writes the pieces one after the other to a file beside `path`, flushes it to disk and renames it
// into place, so that a reader never sees half of it. UNAVAILABLE names the path and the system's
// reason; nothing is left behind then.
absl::Status WriteFileAtomically(const std::string& path,
                                 absl::Span<const absl::string_view> pieces);

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_FILE_H_
