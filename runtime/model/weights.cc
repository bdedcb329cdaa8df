// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/weights.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/cpu/half.h"
#include "nlohmann/json.hpp"
#include "runtime/base/check.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
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

constexpr int64_t kMaxIndexBytes = 100'000'000;

// Tensor name to shard file name, from model.safetensors.index.json.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json index, ReadJsonFile(path, kMaxIndexBytes));
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": weight_map: expected an object"));
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, value] : index["weight_map"].items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : "";
    if (shard.empty() || shard.find('/') != std::string::npos ||
        shard.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": weight_map: ", name.substr(0, 200),
                       ": expected the name of a file in the same folder"));
    }
    shard_of.emplace(name, shard);
  }
  if (shard_of.empty())
    return absl::InvalidArgumentError(absl::StrCat(path, ": weight_map: expected entries"));
  return shard_of;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

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
    CCOE_RETURN_IF_ERROR_IN(Transfer(target_.device, host, held.view).Run(),
                            absl::StrCat("tensor ", name, " to ", target_.device->Name()));
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
    CCOE_RETURN_IF_ERROR_IN(Transfer(target_.device, host, held.view).Run(),
                            absl::StrCat("tensor ", name, " to ", target_.device->Name()));
  }
  return Keep(name, std::move(held));
}

int64_t DeviceTensors::size_bytes() const {
  absl::MutexLock lock(&mutex_);
  return size_bytes_;
}

absl::StatusOr<std::shared_ptr<const Weights>> Weights::Open(const std::string& folder) {
  const std::string single = folder + "/model.safetensors";
  const std::string index = folder + "/model.safetensors.index.json";
  auto weights = std::shared_ptr<Weights>(new Weights());
  weights->folder_ = folder;
  if (FileExists(single)) {
    CCOE_RETURN_IF_ERROR(weights->AddFile(single));
    return weights;
  }
  if (!FileExists(index)) {
    return absl::NotFoundError(
        absl::StrCat(folder, ": expected model.safetensors or model.safetensors.index.json"));
  }
  CCOE_ASSIGN_OR_RETURN(const auto shard_of, ReadIndex(index));
  std::map<std::string, std::vector<std::string>> names_of;
  for (const auto& [name, shard] : shard_of) names_of[shard].push_back(name);
  for (const auto& [shard, names] : names_of) {
    const std::string path = absl::StrCat(folder, "/", shard);
    CCOE_RETURN_IF_ERROR(weights->AddFile(path));
    const auto& held = weights->files_.back()->tensors();
    for (const std::string& name : names) {
      if (held.count(name) > 0) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", name, " is missing, which ", index, " says is there"));
    }
  }
  return weights;
}

absl::Status Weights::AddFile(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(path));
  for (const auto& [name, view] : file->tensors()) {
    if (!tensors_.emplace(name, view).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", name, " is in another shard too"));
    }
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

std::shared_ptr<const Weights> Weights::Of(const std::map<std::string, TensorView>& tensors) {
  auto weights = std::shared_ptr<Weights>(new Weights());
  weights->folder_ = "memory";
  weights->tensors_.insert(tensors.begin(), tensors.end());
  return weights;
}

std::shared_ptr<const Weights> Weights::On(std::shared_ptr<const Weights> weights,
                                           const WeightTarget& target) {
  if (!target.uploads()) return weights;
  auto placed = std::shared_ptr<Weights>(new Weights());
  placed->folder_ = weights->folder_;
  placed->files_ = weights->files_;
  placed->tensors_ = weights->tensors_;
  placed->device_ = std::make_unique<DeviceTensors>(target);
  return placed;
}

bool Weights::Has(absl::string_view name) const { return tensors_.contains(name); }

absl::StatusOr<TensorView> Weights::Raw(absl::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return absl::NotFoundError(absl::StrCat(folder_, ": tensor ", name, " is missing"));
  }
  return found->second;
}

absl::StatusOr<kernels::ConstMatrix> Weights::Checked(absl::string_view name,
                                                      const std::vector<int64_t>& shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return absl::NotFoundError(absl::StrCat(folder_, ": tensor ", name,
                                            " is missing, expected with shape ", ShapeText(shape)));
  }
  const TensorView& view = found->second;
  if (view.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat(folder_, ": tensor ", name, ": expected shape ",
                                                   ShapeText(shape), ", found ",
                                                   ShapeText(view.shape)));
  }
  if (!IsFloat(view.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat(folder_, ": tensor ", name,
                                                   ": expected f32, f16 or bf16, found ",
                                                   kernels::DTypeName(view.dtype)));
  }
  const int64_t cols = shape.back();
  return kernels::ConstMatrix{view.data, view.dtype, shape.size() == 1 ? 1 : shape[0], cols, cols};
}

absl::StatusOr<kernels::ConstMatrix> Weights::MappedMatrix(absl::string_view name, int64_t rows,
                                                           int64_t cols) const {
  return Checked(name, {rows, cols});
}

absl::StatusOr<kernels::ConstMatrix> Weights::Matrix(absl::string_view name, int64_t rows,
                                                     int64_t cols) const {
  CCOE_ASSIGN_OR_RETURN(const kernels::ConstMatrix mapped, Checked(name, {rows, cols}));
  if (device_ == nullptr) return mapped;
  return device_->Upload(name, mapped, /*is_matrix=*/true);
}

absl::StatusOr<kernels::ConstMatrix> Weights::Vector(absl::string_view name, int64_t size) const {
  CCOE_ASSIGN_OR_RETURN(const kernels::ConstMatrix mapped, Checked(name, {size}));
  if (device_ == nullptr) return mapped;
  return device_->Upload(name, mapped, /*is_matrix=*/false);
}

absl::StatusOr<kernels::ConstMatrix> Weights::Computed(absl::string_view name, kernels::DType dtype,
                                                       int64_t rows, int64_t cols,
                                                       DeviceTensors::Maker make) const {
  kernels::ConstMatrix made = {nullptr, dtype, rows, cols, cols};
  if (device_ != nullptr) return device_->UploadComputed(name, made, make);
  absl::MutexLock lock(&computed_mutex_);
  std::unique_ptr<uint32_t[]>& memory = computed_[name];
  if (memory == nullptr) {
    const size_t bytes = static_cast<size_t>(rows * cols) * kernels::DTypeBytes(dtype);
    memory.reset(new (std::nothrow) uint32_t[bytes / sizeof(uint32_t) + 1]);
    if (memory == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat(folder_, ": ", name, ": ", bytes, " bytes of memory"));
    }
    make(memory.get());
  }
  made.data = memory.get();
  return made;
}

std::vector<std::string> Weights::Names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, view] : tensors_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace ccoe::model
