// SPDX-License-Identifier: Apache-2.0
// Sets of FFN experts, named by layer and number: what a worker holds, what a plan assigns.
#ifndef CCOE_RUNTIME_MODEL_FFN_SHARD_H_
#define CCOE_RUNTIME_MODEL_FFN_SHARD_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// Any set of (layer, FFN expert) of a model; layers numbered as in the model. A value type.
class FfnShard {
 public:
  // All experts of all MoE layers.
  static FfnShard All(const ModelSpec& spec);

  void Add(int32_t layer, int32_t expert) { layers_[layer].insert(expert); }
  void Add(const FfnShard& other);
  bool Contains(int32_t layer, int32_t expert) const;
  bool Contains(const FfnShard& other) const;
  bool empty() const { return layers_.empty(); }
  int64_t size() const;  // (layer, expert) pairs

  // By layer; no layer is empty.
  const std::map<int32_t, std::set<int32_t>>& layers() const { return layers_; }

  // INVALID_ARGUMENT naming layer and expert: a layer that has no FFN experts, or an expert the
  // layer does not have.
  absl::Status CheckWithin(const ModelSpec& spec) const;

  // "layers 0-3: 0-7,12; layers 4: 1", for messages and `ccoe status`: layers with the same experts
  // stand together.
  std::string ToString() const;

  friend bool operator==(const FfnShard& a, const FfnShard& b) { return a.layers_ == b.layers_; }

 private:
  std::map<int32_t, std::set<int32_t>> layers_;
};

// "0-7,12": numbers and ranges, from low to high. INVALID_ARGUMENT quotes what is wrong; a number
// above `highest`, or a range that falls, is wrong. So are more than twice as many numbers as there
// are, which bounds the time.
absl::StatusOr<std::set<int32_t>> ParseNumberSet(absl::string_view text, int32_t highest);
std::string NumberSetText(const std::set<int32_t>& numbers);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FFN_SHARD_H_
