#include "runtime/model/scratch.h"

#include <algorithm>

#include "runtime/base/status_macros.h"

namespace ccoe::model {

absl::Status GrowScratch(kernels::Device* device, int64_t elements, kernels::Buffer& buffer) {
  const size_t needed = static_cast<size_t>(elements) * sizeof(float);
  if (buffer.size_bytes() >= needed) return absl::OkStatus();
  const size_t size = std::max(needed, 2 * buffer.size_bytes());
  buffer = kernels::Buffer();
  auto grown = device->Allocate(size);
  if (!grown.ok()) return Annotate(grown.status(), "decoder scratch");
  buffer = *std::move(grown);
  return absl::OkStatus();
}

}  // namespace ccoe::model
