// SPDX-License-Identifier: Apache-2.0
// Whole files: bounded reads, writes that appear at once or not at all, and how a file is told from
// another of its name.
#ifndef CCOE_RUNTIME_BASE_FILE_H_
#define CCOE_RUNTIME_BASE_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

struct stat;

namespace ccoe {

bool FileExists(const std::string& path);

// The content of a regular file. NOT_FOUND, INVALID_ARGUMENT (no regular file, or larger than
// `max_bytes`), else as the system's error says; the message names the path. Never UNAVAILABLE,
// which is for servers.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes);

// Writes the pieces one after the other to what `path` leads to:
// * a new name or a regular file: to a file beside it, which is flushed to disk and renamed into
//   place, so that a reader never sees half of it and nothing is left behind by an error. The file
//   that is replaced hands on its permissions. A symbolic link stays; its target is replaced.
// * a device, a FIFO, a socket or what this process has open (/dev/stdout): written through. A FIFO
//   waits for its reader, as everywhere.
// Errors name the path and the system's reason: NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED
// (a full disk), INVALID_ARGUMENT (a folder), else as the system's error says; never UNAVAILABLE.
absl::Status WriteFileAtomically(const std::string& path,
                                 absl::Span<const absl::string_view> pieces);

// What changes when a file's content is replaced or, but for writes within one tick of the file
// system's clock, overwritten.
struct FileIdentity {
  int64_t size_bytes = 0;
  int64_t modified_ns = 0;  // since 1970
  uint64_t inode = 0;

  static FileIdentity Of(const struct ::stat& info);
  // NOT_FOUND, or as the system's error says.
  static absl::StatusOr<FileIdentity> OfPath(const std::string& path);

  friend bool operator==(const FileIdentity& a, const FileIdentity& b) {
    return a.size_bytes == b.size_bytes && a.modified_ns == b.modified_ns && a.inode == b.inode;
  }
};

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_FILE_H_
