// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxLinks = 40;  // as Linux
constexpr mode_t kNewFileMode = 0644;

absl::Status SystemError(absl::string_view what, absl::string_view path) {
  const int error = errno;
  absl::StatusCode code = absl::ErrnoToStatusCode(error);
  if (code == absl::StatusCode::kUnavailable) code = absl::StatusCode::kUnknown;
  return absl::Status(code, absl::StrCat(path, ": ", what, ": ", std::strerror(error)));
}

// Where a write to a name goes.
struct Destination {
  std::string path;
  bool replaced = false;  // by a file written beside it; false: written through
  mode_t mode = 0;        // of the file that is replaced; 0: there is none
};

bool LiesInProc(const fs::path& path) {
  struct statfs info;
  const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
  return ::statfs(folder.c_str(), &info) == 0 && info.f_type == PROC_SUPER_MAGIC;
}

// The end of a chain of symbolic links, or the link itself where it is one of /proc's, which lead
// to what is open and not to a name (/dev/stdout is one).
absl::StatusOr<Destination> FollowLinks(const std::string& path) {
  fs::path at = path;
  for (int links = 0; links < kMaxLinks; ++links) {
    std::error_code error;
    const fs::path next = fs::read_symlink(at, error);
    if (error) return Destination{at.string(), /*replaced=*/true};
    if (LiesInProc(at)) return Destination{at.string(), /*replaced=*/false};
    at = at.parent_path() / next;  // an absolute target replaces the folder
  }
  errno = ELOOP;
  return SystemError("cannot be followed", path);
}

absl::StatusOr<Destination> FindDestination(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return SystemError("cannot be examined", path);
    return FollowLinks(path);  // a new name, or a link to one
  }
  if (S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a file, found a folder"));
  }
  if (!S_ISREG(info.st_mode)) return Destination{path, /*replaced=*/false};
  CCOE_ASSIGN_OR_RETURN(Destination destination, FollowLinks(path));
  destination.mode = info.st_mode & 0777;
  return destination;
}

absl::Status WriteAll(int fd, absl::string_view piece, absl::string_view path) {
  while (!piece.empty()) {
    const ssize_t written =
        ::write(fd, piece.data(), std::min<size_t>(piece.size(), size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return SystemError("cannot be written", path);
    piece.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

// Writes, flushes to disk what can be, closes.
absl::Status WriteAndClose(int fd, absl::Span<const absl::string_view> pieces,
                           absl::string_view path) {
  absl::Status status;
  for (const absl::string_view piece : pieces) {
    status = WriteAll(fd, piece, path);
    if (!status.ok()) break;
  }
  // EINVAL: a pipe or a device that has nothing to flush.
  if (status.ok() && ::fsync(fd) != 0 && errno != EINVAL && errno != EROFS) {
    status = SystemError("cannot be flushed to disk", path);
  }
  if (::close(fd) != 0 && status.ok()) status = SystemError("cannot be closed", path);
  return status;
}

absl::Status WriteThrough(const std::string& path, absl::Span<const absl::string_view> pieces) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return SystemError("cannot be opened for writing", path);
  return WriteAndClose(fd, pieces, path);
}

// A new file beside `path` that no other thread or process writes; its name is `temporary`.
int OpenTemporary(const std::string& path, std::string* temporary) {
  static std::atomic<int64_t> count = 0;
  constexpr int kTries = 100;  // names that processes of the same id left behind
  for (int i = 0; i < kTries; ++i) {
    *temporary = absl::StrCat(path, ".tmp.", ::getpid(), ".", count++);
    const int fd =
        ::open(temporary->c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kNewFileMode);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

absl::Status Replace(const Destination& destination, absl::Span<const absl::string_view> pieces) {
  std::string temporary;
  const int fd = OpenTemporary(destination.path, &temporary);
  if (fd < 0) return SystemError("cannot be created", destination.path);
  if (destination.mode != 0) ::fchmod(fd, destination.mode);
  absl::Status status = WriteAndClose(fd, pieces, destination.path);
  if (status.ok() && std::rename(temporary.c_str(), destination.path.c_str()) != 0) {
    status = SystemError("cannot be renamed into place", destination.path);
  }
  if (!status.ok()) ::unlink(temporary.c_str());
  return status;
}

}  // namespace

bool FileExists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return SystemError("cannot be opened", path);
  const auto closer = absl::MakeCleanup([fd] { ::close(fd); });
  struct stat info;
  if (::fstat(fd, &info) != 0) return SystemError("cannot be examined", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a regular file"));
  }
  if (info.st_size > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected at most ", max_bytes, " bytes, found ", info.st_size));
  }
  std::string content(static_cast<size_t>(info.st_size), '\0');
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t got = ::read(fd, &content[done], content.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError("cannot be read", path);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  content.resize(done);
  return content;
}

absl::Status WriteFileAtomically(const std::string& path,
                                 absl::Span<const absl::string_view> pieces) {
  CCOE_ASSIGN_OR_RETURN(const Destination destination, FindDestination(path));
  return destination.replaced ? Replace(destination, pieces)
                              : WriteThrough(destination.path, pieces);
}

FileIdentity FileIdentity::Of(const struct ::stat& info) {
  constexpr int64_t kNanoseconds = 1'000'000'000;
  return {info.st_size, info.st_mtim.tv_sec * kNanoseconds + info.st_mtim.tv_nsec, info.st_ino};
}

absl::StatusOr<FileIdentity> FileIdentity::OfPath(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return SystemError("cannot be examined", path);
  return Of(info);
}

}  // namespace ccoe
