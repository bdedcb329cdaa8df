// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

using kernels::DType;
using nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxRank = 8;
constexpr size_t kDataAlignment = 64;
constexpr char kMetadataKey[] = "__metadata__";

const std::pair<const char*, DType> kDTypes[] = {
    {"F32", DType::kF32}, {"F16", DType::kF16}, {"BF16", DType::kBF16},
    {"I32", DType::kI32}, {"I64", DType::kI64}, {"U8", DType::kU8},
};

std::optional<DType> DTypeOfName(const std::string& name) {
  for (const auto& [text, dtype] : kDTypes) {
    if (name == text) return dtype;
  }
  return std::nullopt;
}

const char* NameOfDType(DType dtype) {
  for (const auto& [text, value] : kDTypes) {
    if (value == dtype) return text;
  }
  return "?";
}

// One tensor's entry in the header, its offsets counted from the end of the header.
struct Entry {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

absl::StatusOr<uint64_t> Unsigned(const json& value, absl::string_view what) {
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": expected a number >= 0, found ", value.type_name()));
}

absl::Status ParseShape(const json& value, Entry& entry, uint64_t& bytes) {
  if (!value.is_array() || value.size() > kMaxRank) {
    return absl::InvalidArgumentError(
        absl::StrCat("shape: expected a list of at most ", kMaxRank, " sizes"));
  }
  bytes = kernels::DTypeBytes(entry.dtype);
  for (const json& item : value) {
    CCOE_ASSIGN_OR_RETURN(const uint64_t size, Unsigned(item, "shape"));
    if (size > INT64_MAX || __builtin_mul_overflow(bytes, size, &bytes)) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape: expected a tensor below 2^64 bytes, found the size ", size));
    }
    entry.shape.push_back(static_cast<int64_t>(size));
  }
  return absl::OkStatus();
}

absl::StatusOr<Entry> ParseEntry(const json& value, uint64_t data_bytes) {
  if (!value.is_object()) return absl::InvalidArgumentError("expected an object");
  for (const char* key : {"dtype", "shape", "data_offsets"}) {
    if (!value.contains(key))
      return absl::InvalidArgumentError(absl::StrCat("expected a key ", key));
  }
  if (!value["dtype"].is_string()) return absl::InvalidArgumentError("dtype: expected a string");
  const auto name = value["dtype"].get<std::string>();
  const std::optional<DType> dtype = DTypeOfName(name);
  if (!dtype) {
    return absl::UnimplementedError(
        absl::StrCat("dtype: expected F32, F16, BF16, I32, I64 or U8, found ", name.substr(0, 32)));
  }
  Entry entry;
  entry.dtype = *dtype;
  uint64_t bytes = 0;
  CCOE_RETURN_IF_ERROR(ParseShape(value["shape"], entry, bytes));
  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) {
    return absl::InvalidArgumentError("data_offsets: expected [begin, end]");
  }
  CCOE_ASSIGN_OR_RETURN(entry.begin, Unsigned(offsets[0], "data_offsets"));
  CCOE_ASSIGN_OR_RETURN(entry.end, Unsigned(offsets[1], "data_offsets"));
  if (entry.begin > entry.end || entry.end > data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "data_offsets: expected a range within the file's ", data_bytes, " bytes of data, found [",
        entry.begin, ", ", entry.end, "); the file is truncated or corrupt"));
  }
  if (entry.end - entry.begin != bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("data_offsets: shape [", absl::StrJoin(entry.shape, ", "), "] of ", name,
                     " takes ", bytes, " bytes, found ", entry.end - entry.begin));
  }
  return entry;
}

absl::Status CheckMetadata(const json& value) {
  if (!value.is_object()) return absl::InvalidArgumentError("expected an object");
  for (const auto& [key, item] : value.items()) {
    if (!item.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(key.substr(0, 200), ": expected a string"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckNoOverlap(const std::map<std::string, Entry>& entries) {
  std::vector<const std::pair<const std::string, Entry>*> order;
  for (const auto& entry : entries) {
    if (entry.second.end > entry.second.begin) order.push_back(&entry);
  }
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return a->second.begin < b->second.begin; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i]->second.begin < order[i - 1]->second.end) {
      return absl::InvalidArgumentError(absl::StrCat("tensors ", order[i - 1]->first, " and ",
                                                     order[i]->first, " overlap in the file"));
    }
  }
  return absl::OkStatus();
}

// A file that goes on holds something that nobody reads: another file behind it, or a header that
// is not its own.
absl::Status CheckNothingTrails(const std::map<std::string, Entry>& entries, uint64_t data_bytes) {
  uint64_t end = 0;
  for (const auto& [name, entry] : entries) end = std::max(end, entry.end);
  if (end == data_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("expected the file to end with its last tensor, ",
                                                 end, " bytes behind the header, found ",
                                                 data_bytes, " bytes"));
}

absl::StatusOr<std::map<std::string, Entry>> ParseHeader(absl::string_view text,
                                                         uint64_t data_bytes) {
  CCOE_ASSIGN_OR_RETURN(const json header, ParseJson(text, "header"));
  if (!header.is_object()) return absl::InvalidArgumentError("header: expected an object");
  std::map<std::string, Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadataKey) {
      CCOE_RETURN_IF_ERROR_IN(CheckMetadata(value), kMetadataKey);
      continue;
    }
    auto entry = ParseEntry(value, data_bytes);
    if (!entry.ok()) return Annotate(entry.status(), absl::StrCat("tensor ", name.substr(0, 200)));
    entries.emplace(name, *std::move(entry));
  }
  CCOE_RETURN_IF_ERROR(CheckNoOverlap(entries));
  CCOE_RETURN_IF_ERROR(CheckNothingTrails(entries, data_bytes));
  return entries;
}

struct Mapping {
  void* data = nullptr;
  size_t size_bytes = 0;
  FileIdentity identity;
};

absl::StatusOr<Mapping> MapFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const std::string message = absl::StrCat("cannot be opened: ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
  }
  const auto closer = absl::MakeCleanup([fd] { ::close(fd); });
  struct stat info;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError("expected a regular file");
  }
  const auto size = static_cast<size_t>(info.st_size);
  if (size < sizeof(uint64_t)) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected a header length of 8 bytes, found a file of ", size, " bytes"));
  }
  // Shared, so that all processes of a machine read the same pages.
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED)
    return absl::UnavailableError(absl::StrCat("cannot be mapped: ", std::strerror(errno)));
  return Mapping{data, size, FileIdentity::Of(info)};
}

}  // namespace

SafetensorsFile::~SafetensorsFile() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapping_bytes_);
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  auto mapping = MapFile(path);
  if (!mapping.ok()) return Annotate(mapping.status(), path);
  auto file = std::unique_ptr<SafetensorsFile>(new SafetensorsFile());
  file->path_ = path;
  file->mapping_ = mapping->data;
  file->mapping_bytes_ = mapping->size_bytes;
  file->identity_ = mapping->identity;

  const char* bytes = static_cast<const char*>(mapping->data);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes, sizeof(header_bytes));
  const uint64_t rest = mapping->size_bytes - sizeof(header_bytes);
  if (header_bytes > std::min(kMaxHeaderBytes, rest)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": header length: expected at most ",
                                                   std::min(kMaxHeaderBytes, rest),
                                                   " bytes, found ", header_bytes));
  }
  const absl::string_view text(bytes + sizeof(header_bytes), header_bytes);
  auto entries = ParseHeader(text, rest - header_bytes);
  if (!entries.ok()) return Annotate(entries.status(), path);
  const char* data = text.data() + text.size();
  for (auto& [name, entry] : *entries) {
    TensorView view{data + entry.begin, entry.dtype, std::move(entry.shape),
                    entry.end - entry.begin};
    if (reinterpret_cast<uintptr_t>(view.data) % kernels::DTypeBytes(view.dtype) != 0) {
      view.data = file->AlignedCopy(view);
    }
    file->tensors_.emplace(name, std::move(view));
  }
  return file;
}

const void* SafetensorsFile::AlignedCopy(const TensorView& view) {
  auto& copy = aligned_copies_.emplace_back(
      std::make_unique<uint64_t[]>(view.size_bytes / sizeof(uint64_t) + 1));
  std::memcpy(copy.get(), view.data, view.size_bytes);
  return copy.get();
}

void SafetensorsFile::Release(const void* data, size_t size_bytes) const {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(data) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(data) + size_bytes;
  const auto first = reinterpret_cast<uintptr_t>(mapping_);
  // Never memory of our own (an aligned copy), which would be lost.
  if (begin < first || end > first + mapping_bytes_) return;
  ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

absl::Status WriteSafetensors(const std::string& path,
                              const std::map<std::string, TensorView>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  // Wide elements first: then every tensor starts at a multiple of its element size without gaps.
  std::vector<const std::pair<const std::string, TensorView>*> order;
  for (const auto& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return kernels::DTypeBytes(a->second.dtype) > kernels::DTypeBytes(b->second.dtype);
  });

  json header = json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  std::vector<absl::string_view> pieces(2);
  uint64_t offset = 0;
  for (const auto* tensor : order) {
    const TensorView& view = tensor->second;
    header[tensor->first] = {{"dtype", NameOfDType(view.dtype)},
                             {"shape", view.shape},
                             {"data_offsets", {offset, offset + view.size_bytes}}};
    offset += view.size_bytes;
    pieces.emplace_back(static_cast<const char*>(view.data), view.size_bytes);
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": a name or a metadata value: ", error.what()));
  }
  const uint64_t unpadded = sizeof(uint64_t) + text.size();
  text.append((kDataAlignment - unpadded % kDataAlignment) % kDataAlignment, ' ');
  const uint64_t header_bytes = text.size();
  pieces[0] = absl::string_view(reinterpret_cast<const char*>(&header_bytes), sizeof(header_bytes));
  pieces[1] = text;
  return WriteFileAtomically(path, pieces);
}

}  // namespace ccoe::model
