#include "runtime/model/families/moe_config.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/limits.h"

namespace ccoe::model {
namespace {

struct NamedCount {
  std::string key;
  int64_t count = 0;
};

// The number of experts and the key it stands under.
absl::StatusOr<NamedCount> ParseExperts(const ConfigReader& config, absl::string_view own_key) {
  NamedCount experts;
  for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts"}) {
    if (!config.Has(key)) continue;
    CCOE_ASSIGN_OR_RETURN(const int64_t count, config.Int(key, 1, kMaxExperts));
    if (!experts.key.empty() && count != experts.count) {
      return config.Wrong(key,
                          absl::StrCat("what the key ", experts.key, " says, ", experts.count));
    }
    if (experts.key.empty()) experts = {key, count};
  }
  if (experts.key.empty()) return config.Int(own_key, 1, kMaxExperts).status();
  return experts;
}

}  // namespace

absl::StatusOr<MoeSpec> ParseMoe(const ConfigReader& config, absl::string_view experts_key,
                                 absl::string_view width_key) {
  MoeSpec moe;
  CCOE_ASSIGN_OR_RETURN(const NamedCount experts, ParseExperts(config, experts_key));
  moe.experts = experts.count;
  CCOE_ASSIGN_OR_RETURN(moe.intermediate, config.Int(width_key, 1, kMaxWidth));
  CCOE_ASSIGN_OR_RETURN(moe.gate.top_k, config.Int("num_experts_per_tok", 1, kMaxExperts));
  if (moe.gate.top_k > moe.experts) {
    return config.Wrong("num_experts_per_tok",
                        absl::StrCat("at most ", experts.key, ", ", moe.experts));
  }
  return moe;
}

void SetExperts(const MoeSpec& moe, LayerSpec& layer) {
  layer.ffn.kind = FfnKind::kMoe;
  layer.ffn.intermediate = 0;
  layer.ffn.moe = moe;
}

absl::Status SetSparseLayers(const ConfigReader& config, const MoeSpec& moe, ModelSpec& spec) {
  CCOE_ASSIGN_OR_RETURN(const int64_t step, config.IntOr("decoder_sparse_step", 1, kMaxLayers, 1));
  CCOE_ASSIGN_OR_RETURN(const std::vector<int64_t> listed,
                        config.Ints("mlp_only_layers", 0, spec.layer_count() - 1));
  const std::set<int64_t> dense(listed.begin(), listed.end());
  for (int64_t i = 0; i < spec.layer_count(); ++i) {
    if ((i + 1) % step != 0 || dense.count(i) > 0) continue;
    SetExperts(moe, spec.layers[static_cast<size_t>(i)]);
  }
  return absl::OkStatus();
}

}  // namespace ccoe::model
