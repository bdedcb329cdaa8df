// SPDX-License-Identifier: Apache-2.0
// The host's side of sampling on a GPU.
#ifndef CCOE_KERNELS_CUDA_SAMPLE_ROWS_H_
#define CCOE_KERNELS_CUDA_SAMPLE_ROWS_H_

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/cuda/stream.h"
#include "kernels/sample.h"

namespace ccoe::kernels {

// See Ops::SampleRows. Some bytes a row come back in one copy; rows whose counts and held back ids
// do not fit into one block of host arrays, or whose copies (with penalties or held back ids) not
// into a workspace of 32 MB, go in several. RESOURCE_EXHAUSTED where one row's do not fit alone.
absl::Status CudaSampleRows(Stream* stream, const SampleRowsArgs& args, absl::Span<SampledRow> out);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_SAMPLE_ROWS_H_
