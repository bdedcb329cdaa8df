#include "runtime/placement/expert_bytes.h"

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::placement {
namespace {

constexpr int64_t kMaxConfigBytes = 16'000'000;

// The tensors of a folder that has some; null where it has config.json alone.
absl::StatusOr<std::shared_ptr<const model::Weights>> OpenIfThere(const std::string& folder) {
  auto weights = model::Weights::Open(folder);
  if (absl::IsNotFound(weights.status())) return std::shared_ptr<const model::Weights>();
  return weights;
}

absl::StatusOr<kernels::DType> DTypeOfConfig(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json config, ReadJsonFile(path, kMaxConfigBytes));
  for (const char* key : {"torch_dtype", "dtype"}) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) continue;
    const std::string name = found->is_string() ? found->get<std::string>() : found->dump();
    if (name == "float32") return kernels::DType::kF32;
    if (name == "float16") return kernels::DType::kF16;
    if (name == "bfloat16") return kernels::DType::kBF16;
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", key, ": expected float32, float16 or bfloat16, found ", name.substr(0, 40)));
  }
  return kernels::DType::kF32;
}

}  // namespace

int64_t ExpertBytes(const model::ModelSpec& spec, int32_t layer, kernels::DType dtype) {
  const model::FfnSpec& ffn = spec.layers[static_cast<size_t>(layer)].ffn;
  if (!ffn.is_moe()) return 0;
  return 3 * spec.hidden_size * ffn.moe.intermediate *
         static_cast<int64_t>(kernels::DTypeBytes(dtype));
}

int64_t ShardSize::bytes() const {
  int64_t sum = 0;
  for (const auto& [bytes, count] : experts_of_bytes) sum += bytes * count;
  return sum;
}

std::string ShardSize::ToString() const {
  if (experts_of_bytes.empty()) return "0 bytes";
  return absl::StrCat(absl::StrJoin(experts_of_bytes, " + ",
                                    [](std::string* out, const auto& part) {
                                      absl::StrAppend(out, part.second, " x ", part.first);
                                    }),
                      " = ", bytes(), " bytes");
}

ShardSize SizeOf(const model::ModelSpec& spec, const model::FfnShard& shard, kernels::DType dtype) {
  ShardSize size;
  for (const auto& [layer, experts] : shard.layers()) {
    size.experts_of_bytes[ExpertBytes(spec, layer, dtype)] += static_cast<int64_t>(experts.size());
  }
  return size;
}

absl::StatusOr<kernels::DType> ExpertDType(const model::ModelSpec& spec,
                                           const std::string& folder) {
  CCOE_ASSIGN_OR_RETURN(const auto weights, OpenIfThere(folder));
  const model::FfnShard all = model::FfnShard::All(spec);
  if (weights != nullptr && !all.empty()) {
    const auto& [layer, experts] = *all.layers().begin();
    const std::string name = model::WeightName(
        model::ExpertPrefix(spec.names, layer, *experts.begin()) + spec.names.expert_gate);
    if (weights->Has(name)) {
      CCOE_ASSIGN_OR_RETURN(const model::TensorView tensor, weights->Raw(name));
      return tensor.dtype;
    }
  }
  return DTypeOfConfig(folder + "/config.json");
}

}  // namespace ccoe::placement
