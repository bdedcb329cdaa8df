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

// What CUDA answers to clean-up is of no use any more.
ExpertTables::~ExpertTables() {
  cudaSetDevice(stream_->device());
  cudaStreamSynchronize(stream_->get());
  for (const auto& [gate, entry] : tables_) cudaFree(entry.memory);
  for (char* memory : retired_) cudaFree(memory);
}

absl::Status ExpertTables::FreeRetired() {
  if (retired_.empty()) return absl::OkStatus();
  const char kWhat[] = "cuda: freeing tables of experts";
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(stream_->get()), kWhat));
  for (char* memory : std::exchange(retired_, {})) {
    CCOE_RETURN_IF_ERROR(CudaStatus(cudaFree(memory), kWhat));
  }
  return absl::OkStatus();
}

absl::Status ExpertTables::MakeRoom() {
  if (!stream_->plain()) return absl::OkStatus();  // a later call does it
  if (tables_.size() >= kMaxTables) {
    for (const auto& [gate, entry] : tables_) retired_.push_back(entry.memory);
    tables_.clear();
  }
  return FreeRetired();
}

absl::StatusOr<ExpertTables::Entry> ExpertTables::Make(absl::Span<const ExpertMatrices> experts) {
  const size_t count = experts.size(), bytes = 3 * count * sizeof(MatmulPart);
  const std::string what =
      absl::StrCat("cuda:", stream_->device(), ": ", bytes, " bytes for a table of experts");
  Entry entry;
  entry.experts.assign(experts.begin(), experts.end());
  std::vector<MatmulPart> parts(3 * count);
  for (size_t e = 0; e < count; ++e) {
    SetExpertParts(experts[e], &parts[e], &parts[count + e], &parts[2 * count + e]);
    entry.table.fast.See(experts[e]);
  }
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaMalloc(reinterpret_cast<void**>(&entry.memory), bytes), what));
  const auto* on_device = reinterpret_cast<const MatmulPart*>(entry.memory);
  entry.table.gated = on_device;
  entry.table.up = on_device + count;
  entry.table.down = on_device + 2 * count;
  // Waits: `parts` ends here.
  absl::Status sent = CudaStatus(
      cudaMemcpyAsync(entry.memory, parts.data(), bytes, cudaMemcpyHostToDevice, stream_->get()),
      what);
  sent.Update(CudaStatus(cudaStreamSynchronize(stream_->get()), what));
  if (!sent.ok()) {
    cudaFree(entry.memory);
    return sent;
  }
  return entry;
}

const ExpertTable* ExpertTables::Find(absl::Span<const ExpertMatrices> experts) {
  if (!stream_->ok()) return nullptr;
  const void* const key = experts[0].gate.data;
  if (const auto found = tables_.find(key);
      found != tables_.end() &&
      std::equal(experts.begin(), experts.end(), found->second.experts.begin(),
                 found->second.experts.end(), SameExpert)) {
    return &found->second.table;
  }
  if (stream_->capturing()) {
    stream_->Fail(absl::FailedPreconditionError("cuda: a layer of experts that is new in a step"));
    return nullptr;
  }
  if (const absl::Status status = MakeRoom(); !status.ok()) {
    stream_->Fail(status);
    return nullptr;
  }
  absl::StatusOr<Entry> made = Make(experts);
  if (!made.ok()) {
    stream_->Fail(made.status());
    return nullptr;
  }
  Entry& entry = tables_[key];
  if (entry.memory != nullptr) retired_.push_back(entry.memory);
  entry = *std::move(made);
  return &entry.table;
}

}  // namespace ccoe::kernels
