#include "runtime/model/device_tensors.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/half.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

using kernels::DType;

// What one thread reads, converts and copies at a time: large enough for the bus, small enough to
// keep all threads of a tensor busy.
constexpr int64_t kChunkElements = int64_t{2} << 20;
constexpr int64_t kMaxThreads = 8;

template <typename From, typename To>
void ConvertAs(const void* from, int64_t count, void* to) {
  const From* in = static_cast<const From*>(from);
  To* out = static_cast<To*>(to);
  for (int64_t i = 0; i < count; ++i) kernels::FromF32(kernels::ToF32(in[i]), &out[i]);
}

template <typename From>
void ConvertFrom(const void* from, int64_t count, DType to_dtype, void* to) {
  if (to_dtype == DType::kF32) return ConvertAs<From, float>(from, count, to);
  if (to_dtype == DType::kBF16) return ConvertAs<From, kernels::BF16>(from, count, to);
  return ConvertAs<From, kernels::F16>(from, count, to);
}

void Convert(DType from_dtype, const void* from, int64_t count, DType to_dtype, void* to) {
  if (from_dtype == DType::kF32) return ConvertFrom<float>(from, count, to_dtype, to);
  if (from_dtype == DType::kBF16) return ConvertFrom<kernels::BF16>(from, count, to_dtype, to);
  return ConvertFrom<kernels::F16>(from, count, to_dtype, to);
}

// One tensor's way to the device, in chunks that threads take in turn.
class Transfer {
 public:
  Transfer(kernels::Device* device, kernels::ConstMatrix host, kernels::ConstMatrix target)
      : device_(device),
        host_(host),
        target_(target),
        elements_(host.rows * host.cols),
        chunks_((elements_ + kChunkElements - 1) / kChunkElements) {}

  absl::Status Run() {
    std::vector<std::thread> helpers;
    const int64_t threads = std::min(kMaxThreads, chunks_);
    for (int64_t i = 1; i < threads; ++i) helpers.emplace_back([this] { Work(); });
    Work();
    for (std::thread& helper : helpers) helper.join();
    absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  void Work() {
    for (int64_t chunk = next_++; chunk < chunks_; chunk = next_++) {
      const absl::Status status = CopyChunk(chunk);
      if (status.ok()) continue;
      absl::MutexLock lock(&mutex_);
      status_.Update(status);
      next_ = chunks_;
    }
  }

  absl::Status CopyChunk(int64_t chunk) {
    const int64_t begin = chunk * kChunkElements;
    const int64_t count = std::min(kChunkElements, elements_ - begin);
    const auto at = [begin](const void* data, DType dtype) {
      return static_cast<const char*>(data) + begin * static_cast<int64_t>(DTypeBytes(dtype));
    };
    const char* from = at(host_.data, host_.dtype);
    void* to = const_cast<char*>(at(target_.data, target_.dtype));
    const size_t bytes = static_cast<size_t>(count) * DTypeBytes(target_.dtype);
    if (host_.dtype == target_.dtype) return device_->CopyFromHost(from, to, bytes);
    std::vector<uint32_t> converted((bytes + sizeof(uint32_t) - 1) / sizeof(uint32_t));
    Convert(host_.dtype, from, count, target_.dtype, converted.data());
    return device_->CopyFromHost(converted.data(), to, bytes);
  }

  kernels::Device* const device_;
  const kernels::ConstMatrix host_, target_;
  const int64_t elements_, chunks_;
  std::atomic<int64_t> next_ = 0;
  absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<DeviceTensors::Held> DeviceTensors::Allocate(absl::string_view name,
                                                            kernels::ConstMatrix host,
                                                            DType dtype) {
  CCOE_CHECK(host.stride == host.cols);
  const size_t bytes = static_cast<size_t>(host.rows * host.cols) * kernels::DTypeBytes(dtype);
  Held held;
  auto buffer = target_.device->Allocate(bytes);
  if (!buffer.ok()) {
    return Annotate(buffer.status(), absl::StrCat("tensor ", name, " of ", bytes, " bytes to ",
                                                  target_.device->Name(), ", which holds ",
                                                  size_bytes_, " bytes of tensors already"));
  }
  held.buffer = *std::move(buffer);
  held.view = {held.buffer.data(), dtype, host.rows, host.cols, host.cols};
  return held;
}

absl::StatusOr<kernels::ConstMatrix> DeviceTensors::Keep(absl::string_view name, Held held) {
  const kernels::ConstMatrix view = held.view;
  size_bytes_ += static_cast<int64_t>(held.buffer.size_bytes());
  held_.emplace(std::string(name), std::move(held));
  return view;
}

absl::StatusOr<kernels::ConstMatrix> DeviceTensors::Upload(absl::string_view name,
                                                           kernels::ConstMatrix host,
                                                           bool is_matrix) {
  absl::MutexLock lock(&mutex_);
  // A vector of a matrix's name would be the same tensor seen with another shape, and shapes were
  // checked.
  if (const auto found = held_.find(name); found != held_.end()) return found->second.view;
  const DType dtype = is_matrix ? target_.matrices.value_or(host.dtype) : host.dtype;
  CCOE_ASSIGN_OR_RETURN(Held held, Allocate(name, host, dtype));
  if (target_.fill) {
    CCOE_RETURN_IF_ERROR(Annotate(Transfer(target_.device, host, held.view).Run(),
                                  absl::StrCat("tensor ", name, " to ", target_.device->Name())));
  }
  return Keep(name, std::move(held));
}

absl::StatusOr<kernels::ConstMatrix> DeviceTensors::UploadComputed(absl::string_view name,
                                                                   kernels::ConstMatrix host,
                                                                   Maker make) {
  absl::MutexLock lock(&mutex_);
  if (const auto found = held_.find(name); found != held_.end()) return found->second.view;
  CCOE_ASSIGN_OR_RETURN(Held held, Allocate(name, host, target_.matrices.value_or(host.dtype)));
  if (target_.fill) {
    const size_t bytes =
        static_cast<size_t>(host.rows * host.cols) * kernels::DTypeBytes(host.dtype);
    const std::unique_ptr<uint32_t[]> memory(new (std::nothrow) uint32_t[bytes / 4 + 1]);
    if (memory == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("tensor ", name, ": ", bytes, " bytes of memory"));
    }
    make(memory.get());
    host.data = memory.get();
    CCOE_RETURN_IF_ERROR(Annotate(Transfer(target_.device, host, held.view).Run(),
                                  absl::StrCat("tensor ", name, " to ", target_.device->Name())));
  }
  return Keep(name, std::move(held));
}

int64_t DeviceTensors::size_bytes() const {
  absl::MutexLock lock(&mutex_);
  return size_bytes_;
}

}  // namespace ccoe::model
