// SPDX-License-Identifier: Apache-2.0
// A slow, obvious decoder in double precision over one whole prompt: the oracle for features that
// no golden model has.
#ifndef CCOE_TESTS_TESTING_REFERENCE_MODEL_H_
#define CCOE_TESTS_TESTING_REFERENCE_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::testing {

// A small Llama-shaped spec to change: hidden 24, 2 layers, 4/2 heads of 8, intermediate 40,
// vocabulary 50.
model::ModelSpec TinySpec();

// The tiny spec with a second layer of six FFN experts of 16, two a row, and a gated shared one.
model::ModelSpec TinyMoeSpec();

// The tiny spec with latent attention: q rank 10, kv rank 12, heads of 6 + 4, values of 7.
model::ModelSpec TinyLatentSpec();

// Writes FOLDER/model.safetensors with a random f32 tensor for everything `spec` asks for.
absl::Status WriteTinyWeights(const model::ModelSpec& spec, const std::string& folder,
                              uint64_t seed);

// [ids.size(), vocab] logits; all weights f32. Dense feed-forward blocks and ordinary attention
// only.
absl::StatusOr<std::vector<double>> ReferenceLogits(const model::ModelSpec& spec,
                                                    const model::Weights& weights,
                                                    absl::Span<const int32_t> ids);

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_REFERENCE_MODEL_H_
