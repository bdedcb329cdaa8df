// What a cluster's workers must have in common.
#ifndef CCOE_SERVICES_COMMON_MODEL_IDENTITY_H_
#define CCOE_SERVICES_COMMON_MODEL_IDENTITY_H_

#include <string>

#include "runtime/model/model_spec.h"

namespace ccoe::services {

// A digest of the model's maths as config.json describes it, in hexadecimal. Workers of another one
// are refused by the router and by each other. It says nothing of the weights, so that an expert
// worker needs none of the base's: whether an expert's base has the same weights as the backbone
// worker's is told by the bundle's base fingerprint.
std::string ModelIdentity(const model::ModelSpec& spec);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_MODEL_IDENTITY_H_
