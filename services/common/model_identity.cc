#include "services/common/model_identity.h"

#include "runtime/base/sha256.h"

namespace ccoe::services {

std::string ModelIdentity(const model::ModelSpec& spec) {
  Sha256 digest;
  digest.Update(model::MathsText(spec));
  return digest.Hex();
}

}  // namespace ccoe::services
