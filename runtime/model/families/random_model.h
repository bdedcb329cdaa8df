// SPDX-License-Identifier: Apache-2.0
// A checkpoint with random weights in the layout of Llama, Mixtral or DeepSeekMoE: for benchmarks
// and tests, where only shapes and sizes matter.
#ifndef CCOE_RUNTIME_MODEL_FAMILIES_RANDOM_MODEL_H_
#define CCOE_RUNTIME_MODEL_FAMILIES_RANDOM_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "runtime/base/parallel.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// The defaults make 0.25 billion parameters, without FFN experts.
struct RandomModelOptions {
  int64_t hidden_size = 1024;
  int64_t layers = 16;
  int64_t heads = 16;
  int64_t kv_heads = 4;
  int64_t head_dim = 64;
  int64_t intermediate_size = 2816;
  int64_t vocab_size = 32000;
  int64_t max_positions = 4096;  // tokens
  bool tied_head = false;
  kernels::DType dtype = kernels::DType::kBF16;  // f32, f16 or bf16
  uint64_t seed = 1;

  // FFN experts a layer; 0: dense blocks. With shared experts or dense layers the layout is
  // DeepSeekMoE's, else Mixtral's.
  int64_t experts = 0;
  int64_t experts_per_token = 2;
  int64_t expert_intermediate_size = 1600;  // of one expert, shared or not
  int64_t shared_experts = 0;               // stored as one of their joint width
  int64_t dense_layers = 0;                 // the first so many layers stay dense
};

// 0.4 billion parameters in the shape of Mixtral: 8 layers of 8 experts, two a token.
RandomModelOptions MixtralShapedOptions();

// The config that WriteRandomModel writes, as a spec. INVALID_ARGUMENT for absurd sizes.
absl::StatusOr<ModelSpec> RandomModelSpec(const RandomModelOptions& options);

// One tensor of such a checkpoint: uniform around `mean` with the given standard deviation. The
// variance keeps hidden states of order one and spreads logits with a deviation of about 3.
struct RandomTensor {
  std::string name;
  std::vector<int64_t> shape;
  float mean = 0.0f;
  float deviation = 1.0f;

  int64_t elements() const;
};

// All tensors of a spec that RandomModelSpec made. A tensor's place in this list is part of what
// its values depend on.
std::vector<RandomTensor> RandomTensors(const ModelSpec& spec);

// Number of parameters, embedding and head included; 0 where RandomModelSpec is an error.
int64_t ParameterCount(const RandomModelOptions& options);

// Makes `folder` where it is missing and writes config.json and model.safetensors into it (no
// tokenizer). Weights depend on the seed, the tensor and the element alone, so that the same
// options give the same bytes with any team.
absl::Status WriteRandomModel(const RandomModelOptions& options, const std::string& folder,
                              ThreadTeam& team);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FAMILIES_RANDOM_MODEL_H_
