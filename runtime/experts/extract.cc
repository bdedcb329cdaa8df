// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/extract.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "kernels/cpu/half.h"
#include "runtime/base/sha256.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::experts {
namespace {

namespace fs = std::filesystem;

struct Checkpoint {
  model::ModelSpec spec;
  std::shared_ptr<const model::Weights> weights;
};

absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& folder) {
  Checkpoint checkpoint;
  CCOE_ASSIGN_OR_RETURN(checkpoint.spec, model::LoadModelSpec(folder));
  CCOE_ASSIGN_OR_RETURN(checkpoint.weights, model::Weights::Open(folder));
  return checkpoint;
}

absl::Status CheckOptions(const ExtractOptions& options, const Checkpoint& base,
                          const Checkpoint& tuned) {
  const std::vector<std::string> expected = absl::StrSplit(model::FingerprintText(base.spec), '\n');
  const std::vector<std::string> found = absl::StrSplit(model::FingerprintText(tuned.spec), '\n');
  for (size_t i = 0; i < expected.size() || i < found.size(); ++i) {
    const std::string base_line = i < expected.size() ? expected[i] : "";
    const std::string tuned_line = i < found.size() ? found[i] : "";
    if (base_line == tuned_line) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(options.tuned_folder, "/config.json: expected the same model as ",
                     options.base_folder, ", \"", base_line, "\", found \"", tuned_line, "\""));
  }
  const model::LayerRange whole{0, base.spec.layer_count()};
  if (options.layers.empty() || !whole.Contains(options.layers)) {
    return absl::InvalidArgumentError(
        absl::StrCat("layers: expected FIRST:LAST with 0 <= FIRST < LAST <= ", whole.last,
                     ", found ", options.layers.first, ":", options.layers.last));
  }
  return absl::OkStatus();
}

// The tensors of the bundle, as the tuned checkpoint stores them.
absl::StatusOr<std::map<std::string, model::TensorView>> BundleTensors(
    const ExtractOptions& options, const Checkpoint& tuned) {
  // Binding the layers proves that all their tensors are there, in the right shapes.
  CCOE_RETURN_IF_ERROR(model::Decoder::Create(tuned.spec, options.layers, tuned.weights).status());
  std::map<std::string, model::TensorView> tensors;
  const auto take = [&](const std::string& name, const std::string& as) -> absl::Status {
    CCOE_ASSIGN_OR_RETURN(tensors[as], tuned.weights->Raw(name));
    return absl::OkStatus();
  };
  const model::TensorNames& names = tuned.spec.names;
  for (int32_t i = options.layers.first; i < options.layers.last; ++i) {
    const std::string prefix = model::LayerPrefix(names, i);
    for (const std::string& name : tuned.weights->Names()) {
      if (absl::StartsWith(name, prefix)) CCOE_RETURN_IF_ERROR(take(name, name));
    }
  }
  const std::string norm = model::NormName(names, names.final_norm);
  const std::string head = model::WeightName(names.head);
  if (options.own_norm) CCOE_RETURN_IF_ERROR(take(norm, norm));
  if (options.own_head) {
    CCOE_RETURN_IF_ERROR(
        take(tuned.spec.tied_head ? model::WeightName(names.embedding) : head, head));
  }
  return tensors;
}

void MarkBundled(const ExtractOptions& options, std::vector<Drift>& drift) {
  for (int32_t i = options.layers.first; i < options.layers.last; ++i) {
    drift[static_cast<size_t>(i) + 1].in_bundle = true;  // [0] is the embedding
  }
  for (Drift& part : drift) {
    if (part.part == "final norm") part.in_bundle = options.own_norm;
    if (part.part == "head") part.in_bundle = options.own_head;
  }
}

BundleManifest ManifestOf(const ExtractOptions& options) {
  BundleManifest manifest;
  manifest.expert = {options.name, options.version};
  manifest.domain = options.domain.empty() ? options.name : options.domain;
  manifest.description = options.description;
  manifest.example_queries = options.example_queries;
  manifest.layers = options.layers;
  manifest.owns_norm = options.own_norm;
  manifest.owns_head = options.own_head;
  manifest.training = options.training;
  return manifest;
}

absl::Status FileError(const fs::path& path, absl::string_view what, const std::error_code& error) {
  return absl::UnavailableError(absl::StrCat(path.string(), ": ", what, ": ", error.message()));
}

// Makes an empty folder beside `output`, to be renamed into its place when the bundle is whole.
absl::StatusOr<fs::path> MakeTemporary(const fs::path& output) {
  std::error_code error;
  const bool exists = fs::exists(output, error);
  if (!error && exists && (!fs::is_directory(output, error) || !fs::is_empty(output, error))) {
    return absl::AlreadyExistsError(
        absl::StrCat(output.string(), ": expected no such folder, or an empty one"));
  }
  if (error) return FileError(output, "cannot be examined", error);
  if (output.has_parent_path()) fs::create_directories(output.parent_path(), error);
  if (error) return FileError(output.parent_path(), "cannot be created", error);
  const fs::path temporary = absl::StrCat(output.string(), ".tmp.", ::getpid());
  fs::remove_all(temporary, error);
  if (!fs::create_directory(temporary, error))
    return FileError(temporary, "cannot be created", error);
  return temporary;
}

absl::Status WriteBundle(const fs::path& output,
                         const std::map<std::string, model::TensorView>& tensors,
                         BundleManifest& manifest) {
  CCOE_ASSIGN_OR_RETURN(const fs::path temporary, MakeTemporary(output));
  auto cleaner = absl::MakeCleanup([&temporary] {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
  });
  const std::string weights = (temporary / "model.safetensors").string();
  CCOE_RETURN_IF_ERROR(model::WriteSafetensors(weights, tensors, {{"format", "pt"}}));
  CCOE_ASSIGN_OR_RETURN(manifest.weights_sha256, Sha256OfFile(weights));
  CCOE_RETURN_IF_ERROR(WriteManifest(temporary.string(), manifest));
  std::error_code error;
  fs::rename(temporary, output, error);
  if (error) return FileError(output, "the finished bundle cannot be moved here", error);
  std::move(cleaner).Cancel();
  return absl::OkStatus();
}

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

absl::StatusOr<ExtractReport> ExtractExpert(const ExtractOptions& options) {
  ExtractReport report;
  report.manifest = ManifestOf(options);
  CCOE_RETURN_IF_ERROR(ExpertRef::Parse(absl::StrCat(options.name, "@", options.version)).status());
  CCOE_ASSIGN_OR_RETURN(const Checkpoint base, OpenCheckpoint(options.base_folder));
  CCOE_ASSIGN_OR_RETURN(const Checkpoint tuned, OpenCheckpoint(options.tuned_folder));
  CCOE_RETURN_IF_ERROR(CheckOptions(options, base, tuned));
  CCOE_ASSIGN_OR_RETURN(const auto tensors, BundleTensors(options, tuned));
  CCOE_ASSIGN_OR_RETURN(report.drift, MeasureDrift(base.spec, *base.weights, *tuned.weights));
  MarkBundled(options, report.drift);
  CCOE_ASSIGN_OR_RETURN(report.manifest.base_fingerprint,
                        Fingerprint(base.spec, *base.weights, options.layers.first));
  for (const auto& [name, view] : tensors)
    report.bundle_bytes += static_cast<int64_t>(view.size_bytes);
  fs::path output = fs::path(options.output_folder).lexically_normal();
  if (!output.has_filename()) output = output.parent_path();  // "a/b/" as "a/b"
  CCOE_RETURN_IF_ERROR(WriteBundle(output, tensors, report.manifest));
  return report;
}

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
