// SPDX-License-Identifier: Apache-2.0
// SHA-256 of bytes and files, for bundle digests and fingerprints (FIPS 180-4, by OpenSSL).
#ifndef CCOE_RUNTIME_BASE_SHA256_H_
#define CCOE_RUNTIME_BASE_SHA256_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe {

// An incremental digest. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(const void* data, size_t size_bytes);
  void Update(absl::string_view text) { Update(text.data(), text.size()); }

  // The digest as 64 lower-case hexadecimal digits. Call once, last.
  std::string Hex();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// The digest of a file's content. NOT_FOUND or UNAVAILABLE where it cannot be read.
absl::StatusOr<std::string> Sha256OfFile(const std::string& path);

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_SHA256_H_
