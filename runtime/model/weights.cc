#include "runtime/model/weights.h"

#include <algorithm>
#include <map>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

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
