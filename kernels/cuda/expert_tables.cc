// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/expert_tables.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_status.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {
namespace {

bool SameMatrix(const ConstMatrix& a, const ConstMatrix& b) {
  return a.data == b.data && a.dtype == b.dtype && a.rows == b.rows && a.cols == b.cols &&
         a.stride == b.stride;
}

bool SameExpert(const ExpertMatrices& a, const ExpertMatrices& b) {
  return SameMatrix(a.gate, b.gate) && SameMatrix(a.up, b.up) && SameMatrix(a.down, b.down);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertTables>> ExpertTables::Create(Stream* stream, int64_t bytes) {
  auto tables = std::unique_ptr<ExpertTables>(new ExpertTables(stream, bytes));
  CCOE_RETURN_IF_ERROR(CudaStatus(
      cudaMalloc(reinterpret_cast<void**>(&tables->memory_), bytes),
      absl::StrCat("cuda:", stream->device(), ": ", bytes, " bytes for experts' tables")));
  return tables;
}

// What CUDA answers to clean-up is of no use any more.
ExpertTables::~ExpertTables() {
  cudaSetDevice(stream_->device());
  cudaStreamSynchronize(stream_->get());
  if (memory_ != nullptr) cudaFree(memory_);
}

absl::StatusOr<char*> ExpertTables::Take(int64_t bytes) {
  if (bytes > bytes_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cuda:", stream_->device(), ": table of one layer's experts: expected at most ", bytes_,
        " bytes, found ", bytes));
  }
  if (used_ + bytes > bytes_) {
    // Ops in flight may read them.
    CCOE_RETURN_IF_ERROR(
        CudaStatus(cudaStreamSynchronize(stream_->get()), "cuda: dropping experts' tables"));
    tables_.clear();
    used_ = 0;
    ++generation_;
  }
  char* const taken = memory_ + used_;
  used_ += bytes;
  return taken;
}

absl::StatusOr<ExpertTables::Entry> ExpertTables::Make(absl::Span<const ExpertMatrices> experts) {
  const size_t count = experts.size();
  const auto bytes = static_cast<int64_t>(3 * count * sizeof(MatmulPart));
  Entry entry;
  entry.experts.assign(experts.begin(), experts.end());
  std::vector<MatmulPart> parts(3 * count);
  for (size_t e = 0; e < count; ++e) {
    SetExpertParts(experts[e], &parts[e], &parts[count + e], &parts[2 * count + e]);
    entry.table.fast.See(experts[e]);
  }
  CCOE_ASSIGN_OR_RETURN(char* const memory, Take(bytes));
  const auto* on_device = reinterpret_cast<const MatmulPart*>(memory);
  entry.table.gated = on_device;
  entry.table.up = on_device + count;
  entry.table.down = on_device + 2 * count;
  const char kWhat[] = "cuda: sending a table of experts";
  absl::Status sent = CudaStatus(
      cudaMemcpyAsync(memory, parts.data(), bytes, cudaMemcpyHostToDevice, stream_->get()), kWhat);
  sent.Update(CudaStatus(cudaStreamSynchronize(stream_->get()), kWhat));  // `parts` ends here
  if (!sent.ok()) return sent;
  return entry;
}

const ExpertTable* ExpertTables::Find(absl::Span<const ExpertMatrices> experts) {
  if (!stream_->ok()) return nullptr;
  const void* const key = experts[0].gate.data;
  auto found = tables_.find(key);
  if (found == tables_.end() ||
      !std::equal(experts.begin(), experts.end(), found->second.experts.begin(),
                  found->second.experts.end(), SameExpert)) {
    if (stream_->capturing()) {
      stream_->Fail(
          absl::FailedPreconditionError("cuda: a layer of experts that is new in a step"));
      return nullptr;
    }
    absl::StatusOr<Entry> made = Make(experts);
    if (!made.ok()) {
      stream_->Fail(made.status());
      return nullptr;
    }
    found = tables_.insert_or_assign(key, *std::move(made)).first;
  }
  // A step within which all were dropped is never taken for the captured one: some of what it would
  // read has been overwritten.
  stream_->Enqueues(&generation_, sizeof(generation_));
  return &found->second.table;
}

}  // namespace ccoe::kernels
