// SPDX-License-Identifier: Apache-2.0
// Manifests of expert bundles. Input: expert.json.
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "runtime/base/check.h"
#include "runtime/base/ids.h"
#include "runtime/experts/bundle.h"
#include "tests/fuzz/fuzz_folder.h"
#include "tests/fuzz/fuzz_input.h"

namespace ccoe::experts {

void ReadAndWrite(FuzzInput input) {
  static const FuzzFolder folder;
  folder.Put("expert.json", input.Rest());
  const auto manifest = ReadManifest(folder.path());
  if (!manifest.ok()) {
    CCOE_CHECK(!manifest.status().message().empty());
    return;
  }
  CCOE_CHECK(manifest->expert.version >= 1 && ExpertRef::Parse(manifest->expert.ToString()).ok());
  CCOE_CHECK(manifest->layers.first >= 0 && !manifest->layers.empty());
  CCOE_CHECK(WriteManifest(folder.path(), *manifest).ok());
  const auto again = ReadManifest(folder.path());
  CCOE_CHECK(again.ok());
  CCOE_CHECK(again->expert == manifest->expert && again->domain == manifest->domain &&
             again->description == manifest->description);
  CCOE_CHECK(again->example_queries == manifest->example_queries &&
             again->training == manifest->training);
  CCOE_CHECK(again->layers.first == manifest->layers.first &&
             again->layers.last == manifest->layers.last);
  CCOE_CHECK(again->owns_head == manifest->owns_head && again->owns_norm == manifest->owns_norm);
}

}  // namespace ccoe::experts

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::experts::ReadAndWrite({data, size});
  return 0;
}
