// SPDX-License-Identifier: Apache-2.0
// Indexes of checkpoints in several files. Input: the index; the folder holds two small files.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "runtime/base/check.h"
#include "runtime/model/safetensors.h"
#include "runtime/model/weights.h"
#include "tests/fuzz/fuzz_folder.h"
#include "tests/fuzz/fuzz_input.h"

namespace ccoe::model {

// 1.safetensors with a and b, 2.safetensors with c.
const FuzzFolder& Shards() {
  static const FuzzFolder* const folder = [] {
    static FuzzFolder made;
    static const float value = 1.0f;
    const TensorView scalar = {&value, kernels::DType::kF32, {1}, sizeof(value)};
    CCOE_CHECK(
        WriteSafetensors(made.path() + "/1.safetensors", {{"a", scalar}, {"b", scalar}}).ok());
    CCOE_CHECK(WriteSafetensors(made.path() + "/2.safetensors", {{"c", scalar}}).ok());
    return &made;
  }();
  return *folder;
}

void OpenShards(FuzzInput input) {
  const FuzzFolder& folder = Shards();
  folder.Put("model.safetensors.index.json", input.Rest());
  const auto weights = Weights::Open(folder.path());
  if (!weights.ok()) {
    CCOE_CHECK(!weights.status().message().empty());
    return;
  }
  for (const std::string& name : (*weights)->Names()) {
    CCOE_CHECK(name == "a" || name == "b" || name == "c");
    CCOE_CHECK((*weights)->Has(name) && (*weights)->Vector(name, 1).ok());
  }
}

}  // namespace ccoe::model

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::model::OpenShards({data, size});
  return 0;
}
