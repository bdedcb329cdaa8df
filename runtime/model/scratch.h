// Device memory that is kept from one pass to the next.
#ifndef CCOE_RUNTIME_MODEL_SCRATCH_H_
#define CCOE_RUNTIME_MODEL_SCRATCH_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/device.h"
#include "kernels/view.h"

namespace ccoe::model {

// Room for `elements` values of four bytes in `buffer`, at least doubling it; it never shrinks, and
// loses its content when it grows. RESOURCE_EXHAUSTED from the device.
absl::Status GrowScratch(kernels::Device* device, int64_t elements, kernels::Buffer& buffer);

// The first rows * cols values of `buffer`, f32, contiguous.
inline kernels::Matrix ScratchView(const kernels::Buffer& buffer, int64_t rows, int64_t cols) {
  return kernels::F32Matrix(buffer.f32(), rows, cols);
}

// Columns [begin, begin + count) of an f32 matrix.
inline kernels::Matrix Columns(kernels::Matrix x, int64_t begin, int64_t count) {
  return {static_cast<float*>(x.data) + begin, x.dtype, x.rows, count, x.stride};
}

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_SCRATCH_H_
