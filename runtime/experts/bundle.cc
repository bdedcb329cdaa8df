// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/bundle.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/sha256.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/config_reader.h"
#include "runtime/model/model_spec.h"

namespace ccoe::experts {
namespace {

using model::ConfigReader;

constexpr int64_t kFormat = 1;
constexpr int64_t kMaxManifestBytes = 1'000'000;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxVersion = int64_t{1} << 53;  // what JSON readers everywhere hold exactly

std::string ManifestPath(const std::string& folder) { return folder + "/expert.json"; }
std::string WeightsPath(const std::string& folder) { return folder + "/model.safetensors"; }

std::string RangeText(model::LayerRange range) {
  return absl::StrCat("[", range.first, ", ", range.last, ")");
}

absl::Status CheckDigest(absl::string_view key, const std::string& digest) {
  const bool good = digest.size() == 64 && std::all_of(digest.begin(), digest.end(), [](char c) {
                      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                    });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("key ", key, ": expected 64 lower-case hexadecimal digits, found ",
                   digest.size(), " characters"));
}

absl::Status CheckManifest(const BundleManifest& manifest) {
  if (manifest.expert.version < 1 || manifest.expert.version > kMaxVersion) {
    return absl::InvalidArgumentError(absl::StrCat("key version: expected 1 to ", kMaxVersion,
                                                   ", found ", manifest.expert.version));
  }
  CCOE_RETURN_IF_ERROR_IN(ExpertRef::Parse(manifest.expert.ToString()).status(), "key name");
  const model::LayerRange layers = manifest.layers;
  if (layers.first < 0 || layers.empty() || layers.last > kMaxLayers) {
    return absl::InvalidArgumentError(absl::StrCat(
        "key layers: expected 0 <= first < last <= ", kMaxLayers, ", found ", RangeText(layers)));
  }
  CCOE_RETURN_IF_ERROR(CheckDigest("base_fingerprint", manifest.base_fingerprint));
  return CheckDigest("weights_sha256", manifest.weights_sha256);
}

absl::StatusOr<std::string> RequiredString(const ConfigReader& reader, absl::string_view key) {
  if (!reader.Has(key)) return reader.Wrong(key, "a string");
  return reader.StringOr(key, "");
}

absl::StatusOr<std::map<std::string, std::string>> ParseTraining(const nlohmann::json& object) {
  std::map<std::string, std::string> facts;
  const auto training = object.find("training");
  if (training == object.end() || training->is_null()) return facts;
  if (!training->is_object())
    return absl::InvalidArgumentError("key training: expected an object of strings");
  for (const auto& [key, value] : training->items()) {
    if (!value.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("key training.", key.substr(0, 100), ": expected a string"));
    }
    facts.emplace(key, value.get<std::string>());
  }
  return facts;
}

absl::StatusOr<BundleManifest> ParseManifest(const nlohmann::json& object) {
  if (!object.is_object()) return absl::InvalidArgumentError("expected a JSON object");
  const ConfigReader reader(object);
  CCOE_ASSIGN_OR_RETURN(const int64_t format, reader.Int("format", 0, INT64_MAX));
  if (format != kFormat)
    return absl::UnimplementedError(reader.Wrong("format", absl::StrCat(kFormat)).message());

  BundleManifest manifest;
  CCOE_ASSIGN_OR_RETURN(manifest.expert.name, RequiredString(reader, "name"));
  CCOE_ASSIGN_OR_RETURN(manifest.expert.version, reader.Int("version", 1, kMaxVersion));
  CCOE_ASSIGN_OR_RETURN(manifest.domain, reader.StringOr("domain", manifest.expert.name));
  CCOE_ASSIGN_OR_RETURN(manifest.description, reader.StringOr("description", ""));
  CCOE_ASSIGN_OR_RETURN(manifest.example_queries, reader.Strings("example_queries"));
  CCOE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> layers, reader.Object("layers"));
  if (!layers) return reader.Wrong("layers", "an object with first and last");
  CCOE_ASSIGN_OR_RETURN(const int64_t first, layers->Int("first", 0, kMaxLayers - 1));
  CCOE_ASSIGN_OR_RETURN(const int64_t last, layers->Int("last", first + 1, kMaxLayers));
  manifest.layers = {static_cast<int32_t>(first), static_cast<int32_t>(last)};
  CCOE_ASSIGN_OR_RETURN(manifest.base_fingerprint, RequiredString(reader, "base_fingerprint"));
  CCOE_ASSIGN_OR_RETURN(manifest.weights_sha256, RequiredString(reader, "weights_sha256"));
  CCOE_ASSIGN_OR_RETURN(manifest.owns_norm, reader.BoolOr("owns_norm", false));
  CCOE_ASSIGN_OR_RETURN(manifest.owns_head, reader.BoolOr("owns_head", false));
  CCOE_ASSIGN_OR_RETURN(manifest.training, ParseTraining(object));
  CCOE_RETURN_IF_ERROR(CheckManifest(manifest));
  return manifest;
}

// The bundle holds its layers whole, and what it says it owns, and nothing else.
absl::Status CheckTensors(const BundleManifest& manifest, const model::ModelSpec& spec,
                          const std::shared_ptr<const model::Weights>& weights) {
  const std::string norm = model::NormName(spec.names, spec.names.final_norm);
  const std::string head = model::WeightName(spec.names.head);
  for (const std::string& name : weights->Names()) {
    const std::optional<int32_t> layer = model::LayerOfTensor(spec.names, name);
    const bool in_range = layer && *layer >= manifest.layers.first && *layer < manifest.layers.last;
    const bool owned = (name == norm && manifest.owns_norm) || (name == head && manifest.owns_head);
    if (!in_range && !owned) {
      return absl::InvalidArgumentError(
          absl::StrCat(WeightsPath(weights->folder()), ": tensor ", name, ": expected only layers ",
                       RangeText(manifest.layers), " and what owns_norm and owns_head say"));
    }
  }
  if (manifest.owns_norm) CCOE_RETURN_IF_ERROR(weights->Vector(norm, spec.hidden_size).status());
  if (manifest.owns_head) {
    CCOE_RETURN_IF_ERROR(weights->Matrix(head, spec.vocab_size, spec.hidden_size).status());
  }
  return model::Decoder::Create(spec, manifest.layers, weights).status();
}

}  // namespace

absl::StatusOr<std::string> Fingerprint(const model::ModelSpec& spec, const model::Weights& base,
                                        int32_t first) {
  Sha256 digest;
  digest.Update(model::FingerprintText(spec));
  digest.Update(absl::StrCat("below layer ", first, "\n"));
  const std::string embedding = model::WeightName(spec.names.embedding);
  for (const std::string& name : base.Names()) {
    const std::optional<int32_t> layer = model::LayerOfTensor(spec.names, name);
    if (layer ? *layer >= first : name != embedding) continue;
    CCOE_ASSIGN_OR_RETURN(const model::TensorView view, base.Raw(name));
    digest.Update(absl::StrCat(name, " ", kernels::DTypeName(view.dtype), " [",
                               absl::StrJoin(view.shape, ","), "]\n"));
    digest.Update(view.data, view.size_bytes);
  }
  return digest.Hex();
}

absl::StatusOr<BundleManifest> ReadManifest(const std::string& folder) {
  const std::string path = ManifestPath(folder);
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json object, ReadJsonFile(path, kMaxManifestBytes));
  auto manifest = ParseManifest(object);
  if (!manifest.ok()) return Annotate(manifest.status(), path);
  return manifest;
}

absl::Status WriteManifest(const std::string& folder, const BundleManifest& manifest) {
  const std::string path = ManifestPath(folder);
  CCOE_RETURN_IF_ERROR_IN(CheckManifest(manifest), path);
  nlohmann::ordered_json object;
  object["format"] = kFormat;
  object["name"] = manifest.expert.name;
  object["version"] = manifest.expert.version;
  object["domain"] = manifest.domain;
  object["description"] = manifest.description;
  object["example_queries"] = manifest.example_queries;
  object["layers"] = {{"first", manifest.layers.first}, {"last", manifest.layers.last}};
  object["base_fingerprint"] = manifest.base_fingerprint;
  object["weights_sha256"] = manifest.weights_sha256;
  object["owns_norm"] = manifest.owns_norm;
  object["owns_head"] = manifest.owns_head;
  object["training"] = manifest.training;
  std::string text;
  try {
    text = object.dump(2) + "\n";
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": a text of the manifest: ", error.what()));
  }
  if (text.size() > kMaxManifestBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected at most ", kMaxManifestBytes,
                                                   " bytes, found ", text.size()));
  }
  return WriteFileAtomically(path, {absl::string_view(text)});
}

absl::Status CheckFits(const BundleManifest& manifest, const model::ModelSpec& spec,
                       const std::string& base_fingerprint) {
  const std::string who =
      absl::StrCat("expert ", manifest.expert.ToString(), " is for another base: ");
  const model::LayerRange whole{0, spec.layer_count()};
  if (!whole.Contains(manifest.layers)) {
    return absl::FailedPreconditionError(absl::StrCat(who, "layers: expected a range within ",
                                                      RangeText(whole), ", found ",
                                                      RangeText(manifest.layers)));
  }
  if (manifest.base_fingerprint != base_fingerprint) {
    return absl::FailedPreconditionError(absl::StrCat(
        who, "fingerprint of the config and the tensors below layer ", manifest.layers.first,
        ": expected ", base_fingerprint, " (this base), found ", manifest.base_fingerprint));
  }
  return absl::OkStatus();
}

absl::StatusOr<Bundle> OpenBundle(const std::string& folder, const model::ModelSpec& spec,
                                  const std::string& base_fingerprint) {
  Bundle bundle;
  bundle.folder = folder;
  CCOE_ASSIGN_OR_RETURN(bundle.manifest, ReadManifest(folder));
  CCOE_RETURN_IF_ERROR_IN(CheckFits(bundle.manifest, spec, base_fingerprint), folder);
  CCOE_ASSIGN_OR_RETURN(const std::string digest, Sha256OfFile(WeightsPath(folder)));
  if (digest != bundle.manifest.weights_sha256) {
    return absl::DataLossError(absl::StrCat(WeightsPath(folder), ": sha256: expected ",
                                            bundle.manifest.weights_sha256,
                                            " as the manifest says, found ", digest));
  }
  CCOE_ASSIGN_OR_RETURN(bundle.weights, model::Weights::Open(folder));
  CCOE_RETURN_IF_ERROR(CheckTensors(bundle.manifest, spec, bundle.weights));
  return bundle;
}

}  // namespace ccoe::experts
