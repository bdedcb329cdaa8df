// What a model's tokens cost in memory traffic and arithmetic: the two bounds that benchmarks are
// held against.
#ifndef CCOE_SERVICES_OFFLINE_MODEL_COST_H_
#define CCOE_SERVICES_OFFLINE_MODEL_COST_H_

#include <cstdint>

#include "runtime/model/model_spec.h"

namespace ccoe::services {

// Parameters of layers and LM head: those every token reads. The embedding table is not among them
// (one row of it is read), unless it is the head.
int64_t ParametersTouched(const model::ModelSpec& spec);

// All parameters, the embedding table included.
int64_t ParametersTotal(const model::ModelSpec& spec);

// Bytes of weights a decode step reads, for weights of `bytes_per_weight`.
int64_t DecodeBytes(const model::ModelSpec& spec, int64_t bytes_per_weight);

// Floating-point operations (a multiply-add is two) of a prompt of `tokens`: linears of every row,
// the head for the last row alone, and causal attention (q.k and weights.v over (tokens + 1) / 2
// positions on average).
double PrefillFlops(const model::ModelSpec& spec, int64_t tokens);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_OFFLINE_MODEL_COST_H_
