#include "runtime/model/memory_plan.h"

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace ccoe::model {
namespace {

constexpr int64_t kAlignment = 512;  // cudaMalloc's

std::string Gigabytes(int64_t bytes) {
  return absl::StrFormat("%.2f GB", static_cast<double>(bytes) / 1e9);
}

}  // namespace

absl::StatusOr<kernels::Buffer> CountingDevice::Allocate(size_t size_bytes) {
  if (size_bytes == 0) return kernels::Buffer();
  const int64_t rounded = (static_cast<int64_t>(size_bytes) + kAlignment - 1) & -kAlignment;
  // An address that is never followed.
  const int64_t address = kAlignment + counted_.fetch_add(rounded);
  return kernels::Buffer(this, reinterpret_cast<void*>(address), size_bytes);
}

absl::Status CountingDevice::CopyFromHost(const void*, void*, size_t) {
  return absl::FailedPreconditionError("a device that only counts takes no copies");
}

absl::Status CountingDevice::CopyToHost(const void*, void*, size_t) {
  return absl::FailedPreconditionError("a device that only counts takes no copies");
}

int64_t MemoryPlan::total_bytes() const {
  int64_t total = 0;
  for (const auto& [what, bytes] : parts_) total += bytes;
  return total;
}

std::string MemoryPlan::ToString() const {
  return absl::StrCat(absl::StrJoin(parts_, " + ",
                                    [](std::string* out, const auto& part) {
                                      absl::StrAppend(out, part.first, " ", Gigabytes(part.second));
                                    }),
                      " = ", Gigabytes(total_bytes()));
}

absl::Status MemoryPlan::CheckFits(kernels::Device& device) const {
  const int64_t free = device.FreeBytes();
  if (total_bytes() <= free) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(device.Name(), ": ", ToString(),
                                                   ": expected at most the ", Gigabytes(free),
                                                   " that are free"));
}

}  // namespace ccoe::model
