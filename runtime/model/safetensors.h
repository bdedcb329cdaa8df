// SPDX-License-Identifier: Apache-2.0
// The safetensors file format: 8 bytes little-endian header length, a JSON header, the tensors'
// bytes.
#ifndef CCOE_RUNTIME_MODEL_SAFETENSORS_H_
#define CCOE_RUNTIME_MODEL_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "runtime/base/file.h"

namespace ccoe::model {

// A tensor in a mapped file or in the caller's memory: contiguous, row-major, little-endian.
struct TensorView {
  const void* data = nullptr;
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<int64_t> shape;
  size_t size_bytes = 0;
};

// A mapped file. Thread-safe, immutable.
class SafetensorsFile {
 public:
  // Checks the whole header against the file: lengths, dtypes, shapes, offsets that overlap or
  // leave the file, bytes behind the last tensor. Errors name file and tensor. Bounds the header at
  // 100 MB. A tensor that does not start at a multiple of its element size is copied into memory;
  // all others are read in place. Whoever shortens the file while it is mapped breaks its readers.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);
  ~SafetensorsFile();

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::string& path() const { return path_; }
  // Of the file as it was opened.
  const FileIdentity& identity() const { return identity_; }

  // Whoever has read a part of the file once gives its pages back; they stay in the system's cache,
  // and reading them again is allowed. Nothing for memory that is not the mapping's.
  void Release(const void* data, size_t size_bytes) const;

 private:
  SafetensorsFile() = default;

  const void* AlignedCopy(const TensorView& view);

  std::string path_;
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  FileIdentity identity_;
  std::vector<std::unique_ptr<uint64_t[]>> aligned_copies_;
  std::map<std::string, TensorView> tensors_;
};

// Writes a file with the tensors in order of name (wider elements first, which keeps all of them
// aligned) and `metadata` (string to string), beside it first and then renamed into place, so that
// a reader never sees half of it.
absl::Status WriteSafetensors(const std::string& path,
                              const std::map<std::string, TensorView>& tensors,
                              const std::map<std::string, std::string>& metadata = {});

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_SAFETENSORS_H_
