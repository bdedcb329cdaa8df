// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/weights_digest.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "kernels/dtype.h"
#include "runtime/base/file.h"
#include "runtime/base/parallel.h"
#include "runtime/base/sha256.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

namespace fs = std::filesystem;

// What is hashed before its pages are given back: so much of each thread's tensor is in memory.
constexpr size_t kPieceBytes = size_t{8} << 20;
constexpr size_t kDigestDigits = 64;
constexpr int64_t kMaxCacheFileBytes = 16 << 20;
// Older than the ticks of all file systems' clocks, of which FAT's is the slowest.
constexpr int64_t kSettledNanoseconds = 3'000'000'000;

struct Work {
  const std::string* name;
  const TensorView* view;
  const SafetensorsFile* file;
  std::string sha256;
};

void Hash(Work& work) {
  Sha256 digest;
  const char* data = static_cast<const char*>(work.view->data);
  for (size_t done = 0; done < work.view->size_bytes; done += kPieceBytes) {
    const size_t bytes = std::min(kPieceBytes, work.view->size_bytes - done);
    digest.Update(data + done, bytes);
    work.file->Release(data + done, bytes);
  }
  work.sha256 = digest.Hex();
}

// A name's length before it: no two sets of tensors give the same text.
std::string LineOf(const Work& work) {
  return absl::StrCat(work.name->size(), ":", *work.name, " ", kernels::DTypeName(work.view->dtype),
                      " [", absl::StrJoin(work.view->shape, ","), "] ", work.sha256, "\n");
}

WeightsDigest HashAll(const Weights& weights, int threads) {
  std::vector<Work> tensors;
  WeightsDigest result;
  for (const auto& file : weights.files()) {
    for (const auto& [name, view] : file->tensors()) {
      tensors.push_back({&name, &view, file.get(), ""});
      result.hashed_bytes += static_cast<int64_t>(view.size_bytes);
    }
  }
  // The largest first: one that starts last would be waited for alone.
  std::sort(tensors.begin(), tensors.end(),
            [](const Work& a, const Work& b) { return a.view->size_bytes > b.view->size_bytes; });
  ThreadTeam team(threads);
  team.Run(static_cast<int64_t>(tensors.size()),
           [&](int64_t i) { Hash(tensors[static_cast<size_t>(i)]); });
  std::sort(tensors.begin(), tensors.end(),
            [](const Work& a, const Work& b) { return *a.name < *b.name; });
  Sha256 digest;
  digest.Update("ccoe weights 1\n");
  for (const Work& work : tensors) digest.Update(LineOf(work));
  result.sha256 = digest.Hex();
  return result;
}

// The files a digest is of, as text; "" where they are no longer those that were opened.
std::string FilesText(const Weights& weights) {
  std::map<std::string, FileIdentity> files;
  for (const auto& file : weights.files()) {
    const auto now = FileIdentity::OfPath(file->path());
    if (!now.ok() || !(*now == file->identity())) return "";
    std::error_code error;
    const fs::path path = fs::canonical(file->path(), error);
    if (error) return "";
    files.emplace(path.string(), *now);
  }
  std::string text = "ccoe weights digest 1\n";
  for (const auto& [path, identity] : files) {
    absl::StrAppend(&text, identity.size_bytes, " ", identity.modified_ns, " ", identity.inode, " ",
                    absl::CEscape(path), "\n");
  }
  return text;
}

bool AreSettled(const Weights& weights) {
  struct timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  const int64_t now_ns = now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
  return std::all_of(weights.files().begin(), weights.files().end(), [now_ns](const auto& file) {
    return file->identity().modified_ns < now_ns - kSettledNanoseconds;
  });
}

// A file for each folder of weights: a checkpoint that changed takes the place of what it was.
std::string CachePath(const Weights& weights, const std::string& cache_folder) {
  std::error_code error;
  const fs::path folder = fs::canonical(weights.folder(), error);
  if (cache_folder.empty() || error) return "";
  Sha256 digest;
  digest.Update(folder.string());
  return absl::StrCat(cache_folder, "/weights-", digest.Hex().substr(0, 32), ".txt");
}

// What is remembered of these very files; "" where that is nothing.
std::string Recall(const std::string& cache_path, absl::string_view files) {
  if (cache_path.empty() || files.empty()) return "";
  const auto content = ReadFile(cache_path, kMaxCacheFileBytes);
  absl::string_view rest = content.ok() ? *content : absl::string_view();
  if (!absl::ConsumePrefix(&rest, files) || !absl::ConsumeSuffix(&rest, "\n")) return "";
  const bool is_digest =
      rest.size() == kDigestDigits && std::all_of(rest.begin(), rest.end(), absl::ascii_isxdigit);
  return is_digest ? std::string(rest) : "";
}

// A cache that cannot be written is none.
void Remember(const std::string& cache_path, absl::string_view files, absl::string_view sha256) {
  if (cache_path.empty() || files.empty()) return;
  std::error_code ignored;
  fs::create_directories(fs::path(cache_path).parent_path(), ignored);
  WriteFileAtomically(cache_path, {files, sha256, "\n"}).IgnoreError();
}

}  // namespace

std::string DefaultDigestCache() {
  for (const auto& [variable, below] :
       {std::pair("XDG_CACHE_HOME", "/ccoe"), std::pair("HOME", "/.cache/ccoe")}) {
    const char* folder = std::getenv(variable);
    // The XDG specification: what is no absolute path is ignored.
    if (folder != nullptr && folder[0] == '/') return absl::StrCat(folder, below);
  }
  return "";
}

absl::StatusOr<WeightsDigest> DigestWeights(const Weights& weights, const DigestOptions& options) {
  const std::string cache_path = CachePath(weights, options.cache_folder);
  const std::string files = FilesText(weights);
  const std::string remembered = Recall(cache_path, files);
  if (!remembered.empty() && !options.verify) return WeightsDigest{remembered, true, 0};
  WeightsDigest digest = HashAll(weights, options.threads);
  // Files that changed meanwhile have another text, or none.
  if (AreSettled(weights) && FilesText(weights) == files && digest.sha256 != remembered) {
    Remember(cache_path, files, digest.sha256);
  }
  if (!remembered.empty() && digest.sha256 != remembered) {
    return absl::DataLossError(
        absl::StrCat(weights.folder(),
                     ": the content of the weights has changed, and their files' size, "
                     "time and inode have not: expected sha256 ",
                     remembered, ", found ", digest.sha256));
  }
  return digest;
}

}  // namespace ccoe::model
