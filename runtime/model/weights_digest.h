// SPDX-License-Identifier: Apache-2.0
// Which weights these are: one SHA-256 over the tensors of a checkpoint, however its files are cut.
//
// Each tensor's bytes have a digest of their own; those and the tensors' names, types and shapes,
// in order of name, make the digest of the whole. So it is the same for one file and for twenty,
// and tensors are hashed by all cores at once. Hashing hundreds of gigabytes takes minutes, so the
// answer is remembered in a small file for each checkpoint, which holds for as long as path, size,
// time of change and inode of every file are what they were. Files changed in the last seconds are
// not remembered: a second change could fall into the same tick of the file system's clock.
//
// An expert bundle needs none of this: its manifest names the SHA-256 of its file, which OpenBundle
// checks in full (runtime/experts/bundle.h).
#ifndef CCOE_RUNTIME_MODEL_WEIGHTS_DIGEST_H_
#define CCOE_RUNTIME_MODEL_WEIGHTS_DIGEST_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// $XDG_CACHE_HOME/ccoe, else $HOME/.cache/ccoe; "" where neither is set.
std::string DefaultDigestCache();

struct DigestOptions {
  // Where digests are remembered; made if need be. "": nowhere. A folder that cannot be read or
  // written is none: it costs time, never the answer.
  std::string cache_folder = DefaultDigestCache();
  // Hashes in any case.
  bool verify = false;
  int threads = 0;  // that hash at once; 0: all cores
};

struct WeightsDigest {
  std::string sha256;       // 64 lower-case hexadecimal digits
  bool remembered = false;  // from the cache, nothing was read
  int64_t hashed_bytes = 0;
};

// The digest of the tensors as the files hold them. Processes that share a cache may call it at
// once. DATA_LOSS with `verify` where the files are those that were remembered and their content is
// not; the right digest is remembered then.
absl::StatusOr<WeightsDigest> DigestWeights(const Weights& weights,
                                            const DigestOptions& options = {});

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_WEIGHTS_DIGEST_H_
