#include "runtime/experts/drift.h"

#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/cpu/half.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/model_spec.h"

namespace ccoe::experts {
namespace {

using kernels::DType;
using model::TensorView;

// Sums over the elements of a part.
struct Sums {
  double difference = 0.0;
  double base = 0.0;
  double max_abs = 0.0;
};

template <typename Base, typename Tuned>
void AddElements(const void* base_data, const void* tuned_data, size_t count, Sums& sums) {
  const auto* base = static_cast<const Base*>(base_data);
  const auto* tuned = static_cast<const Tuned*>(tuned_data);
  for (size_t i = 0; i < count; ++i) {
    const double b = kernels::ToF32(base[i]);
    const double difference = static_cast<double>(kernels::ToF32(tuned[i])) - b;
    sums.difference += difference * difference;
    sums.base += b * b;
    sums.max_abs = std::fmax(sums.max_abs, std::fabs(difference));
  }
}

template <typename Base>
bool AddTuned(const TensorView& base, const TensorView& tuned, size_t count, Sums& sums) {
  switch (tuned.dtype) {
    case DType::kF32:
      AddElements<Base, float>(base.data, tuned.data, count, sums);
      return true;
    case DType::kF16:
      AddElements<Base, kernels::F16>(base.data, tuned.data, count, sums);
      return true;
    case DType::kBF16:
      AddElements<Base, kernels::BF16>(base.data, tuned.data, count, sums);
      return true;
    default:
      return false;
  }
}

// False for a dtype that holds no floating-point numbers.
bool AddTensor(const TensorView& base, const TensorView& tuned, Sums& sums) {
  const size_t count = base.size_bytes / kernels::DTypeBytes(base.dtype);
  switch (base.dtype) {
    case DType::kF32:
      return AddTuned<float>(base, tuned, count, sums);
    case DType::kF16:
      return AddTuned<kernels::F16>(base, tuned, count, sums);
    case DType::kBF16:
      return AddTuned<kernels::BF16>(base, tuned, count, sums);
    default:
      return false;
  }
}

absl::StatusOr<Drift> MeasurePart(const std::string& part, const std::vector<std::string>& names,
                                  const model::Weights& base, const model::Weights& tuned) {
  Sums sums;
  for (const std::string& name : names) {
    CCOE_ASSIGN_OR_RETURN(const TensorView base_view, base.Raw(name));
    CCOE_ASSIGN_OR_RETURN(const TensorView tuned_view, tuned.Raw(name));
    if (base_view.shape != tuned_view.shape) {
      return absl::InvalidArgumentError(
          absl::StrCat(tuned.folder(), ": tensor ", name, ": expected the base's shape [",
                       absl::StrJoin(base_view.shape, ", "), "], found [",
                       absl::StrJoin(tuned_view.shape, ", "), "]"));
    }
    if (!AddTensor(base_view, tuned_view, sums)) {
      return absl::InvalidArgumentError(
          absl::StrCat(tuned.folder(), ": tensor ", name,
                       ": expected f32, f16 or bf16 in both checkpoints, found ",
                       kernels::DTypeName(base_view.dtype), " in the base and ",
                       kernels::DTypeName(tuned_view.dtype)));
    }
  }
  Drift drift;
  drift.part = part;
  drift.max_abs = sums.max_abs;
  if (sums.difference > 0.0) drift.relative = std::sqrt(sums.difference / sums.base);
  return drift;
}

// The names either side has that begin with `prefix`.
std::vector<std::string> NamesWith(absl::string_view prefix, const model::Weights& base,
                                   const model::Weights& tuned) {
  std::vector<std::string> names;
  for (const std::string& name : base.Names()) {
    if (absl::StartsWith(name, prefix)) names.push_back(name);
  }
  for (const std::string& name : tuned.Names()) {
    if (absl::StartsWith(name, prefix) && !base.Has(name)) names.push_back(name);
  }
  return names;
}

}  // namespace

absl::StatusOr<std::vector<Drift>> MeasureDrift(const model::ModelSpec& spec,
                                                const model::Weights& base,
                                                const model::Weights& tuned) {
  std::vector<Drift> drift;
  const auto add = [&](const std::string& part,
                       const std::vector<std::string>& names) -> absl::Status {
    CCOE_ASSIGN_OR_RETURN(Drift measured, MeasurePart(part, names, base, tuned));
    drift.push_back(std::move(measured));
    return absl::OkStatus();
  };
  CCOE_RETURN_IF_ERROR(add("embedding", {model::WeightName(spec.names.embedding)}));
  for (int32_t i = 0; i < spec.layer_count(); ++i) {
    CCOE_RETURN_IF_ERROR(
        add(absl::StrCat("layer ", i), NamesWith(model::LayerPrefix(spec.names, i), base, tuned)));
  }
  CCOE_RETURN_IF_ERROR(add("final norm", {model::NormName(spec.names, spec.names.final_norm)}));
  if (!spec.tied_head) CCOE_RETURN_IF_ERROR(add("head", {model::WeightName(spec.names.head)}));
  return drift;
}

}  // namespace ccoe::experts
