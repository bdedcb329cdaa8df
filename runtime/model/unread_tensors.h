// SPDX-License-Identifier: Apache-2.0
// The tensors of a checkpoint that its model does not read. A config that leaves something out (a
// shared expert, layers, biases) gives other logits without an error, and what it left out lies in
// the checkpoint for all to see.
#ifndef CCOE_RUNTIME_MODEL_UNREAD_TENSORS_H_
#define CCOE_RUNTIME_MODEL_UNREAD_TENSORS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

struct UnreadTensors {
  static constexpr int kMaxNamed = 5;

  int64_t count = 0;
  std::vector<std::string> first;  // by name, at most kMaxNamed

  // "7 tensors are read by nothing: a, b, c, d, e and 2 more"; "" where there are none.
  std::string ToString() const;
};

// Unread is what is unknown to the model as a whole: `weights` may hold a part of it (a bundle),
// and its holder bind a part of that (a worker's FFN experts). Known and not read, so left out:
// rotary tables, and the layers that predict further tokens.
//
// INVALID_ARGUMENT names folder, tensor, expected and found where the checkpoint holds what the
// config should have named, since the logits would be others:
// * layers above num_hidden_layers, FFN experts above their number;
// * tensors of a module that this layout of names knows and the config leaves out, or that the
//   module does not have by the config (a bias, a norm);
// * a head that differs from the embedding, where tie_word_embeddings says that they are one.
absl::StatusOr<UnreadTensors> FindUnreadTensors(const ModelSpec& spec, const Weights& weights);

// The same as whoever binds a model wants it: a warning in the log where tensors are unread, once a
// process and folder.
absl::Status CheckAllIsRead(const ModelSpec& spec, const Weights& weights);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_UNREAD_TENSORS_H_
