// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/unread_tensors.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "glog/logging.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

// What a layer's tensors may be called, without the layer's prefix.
using NameSet = absl::flat_hash_set<std::string>;

// Modules of any layer in this layout of names, those that no layer here has among them. What lies
// below one of them belongs to it.
std::vector<std::string> AllModules(const TensorNames& names) {
  std::vector<std::string> modules = {names.attention_norm,
                                      names.attention_post_norm,
                                      names.q,
                                      names.k,
                                      names.v,
                                      names.attention_output,
                                      names.q_a,
                                      names.q_a_norm,
                                      names.q_b,
                                      names.kv_a,
                                      names.kv_a_norm,
                                      names.kv_b,
                                      names.q_norm,
                                      names.k_norm,
                                      names.ffn_norm,
                                      names.ffn_post_norm,
                                      names.gate,
                                      names.up,
                                      names.down,
                                      names.router,
                                      names.shared_gate};
  for (const std::string& matrix : {names.expert_gate, names.expert_up, names.expert_down}) {
    modules.push_back(names.shared_prefix + matrix);
  }
  modules.erase(std::remove(modules.begin(), modules.end(), ""), modules.end());
  return modules;
}

void AddAttention(const TensorNames& names, const LayerSpec& layer, NameSet& known) {
  const AttentionSpec& attention = layer.attention;
  known.insert(NormName(names, names.attention_norm));
  known.insert(WeightName(names.attention_output));
  if (layer.post_norms) known.insert(NormName(names, names.attention_post_norm));
  if (attention.is_latent()) {
    for (const std::string& name : {names.kv_a, names.kv_b}) known.insert(WeightName(name));
    known.insert(NormName(names, names.kv_a_norm));
    if (attention.latent.q_rank == 0) {
      known.insert(WeightName(names.q));
    } else {
      for (const std::string& name : {names.q_a, names.q_b}) known.insert(WeightName(name));
      known.insert(NormName(names, names.q_a_norm));
    }
    return;
  }
  for (const std::string& name : {names.q, names.k, names.v}) {
    known.insert(WeightName(name));
    if (attention.qkv_bias) known.insert(BiasName(name));
  }
  if (attention.output_bias) known.insert(BiasName(names.attention_output));
  if (attention.qk_norm != QkNorm::kNone) {
    for (const std::string& name : {names.q_norm, names.k_norm}) {
      known.insert(NormName(names, name));
    }
  }
}

// Without the experts, which are many and told by their numbers.
void AddFfn(const TensorNames& names, const LayerSpec& layer, NameSet& known) {
  const FfnSpec& ffn = layer.ffn;
  known.insert(NormName(names, names.ffn_norm));
  if (layer.post_norms) known.insert(NormName(names, names.ffn_post_norm));
  if (!ffn.is_moe()) {
    for (const std::string& name : {names.gate, names.up, names.down}) {
      known.insert(WeightName(name));
      if (ffn.bias) known.insert(BiasName(name));
    }
    return;
  }
  known.insert(WeightName(names.router));
  if (ffn.moe.correction_bias) known.insert(names.correction_bias);
  if (ffn.moe.shared == SharedExpert::kNone) return;
  for (const std::string& matrix : {names.expert_gate, names.expert_up, names.expert_down}) {
    known.insert(WeightName(names.shared_prefix + matrix));
  }
  if (ffn.moe.shared == SharedExpert::kSigmoidGated) known.insert(WeightName(names.shared_gate));
}

// Buffers that exporters leave behind; what they hold follows from the config.
bool IsRotaryTable(absl::string_view name) {
  return absl::EndsWith(name, "rotary_emb.inv_freq") ||
         absl::EndsWith(name, "rotary_emb.cos_cached") ||
         absl::EndsWith(name, "rotary_emb.sin_cached");
}

// Of a folder; a process that has warned of very many warns again.
bool IsFirstWarning(const std::string& folder) {
  constexpr size_t kMaxRemembered = 1024;
  static absl::Mutex* const mutex = new absl::Mutex();
  static NameSet* const warned = new NameSet();
  absl::MutexLock lock(mutex);
  if (warned->size() >= kMaxRemembered) warned->clear();
  return warned->insert(folder).second;
}

bool IsBelow(absl::string_view name, absl::string_view module) {
  return absl::ConsumePrefix(&name, module) && absl::StartsWith(name, ".");
}

// Tells the tensors of one checkpoint apart.
class Sorter {
 public:
  Sorter(const ModelSpec& spec, const Weights& weights)
      : spec_(spec), weights_(weights), modules_(AllModules(spec.names)) {
    const TensorNames& names = spec.names;
    for (const LayerSpec& layer : spec.layers) {
      AddAttention(names, layer, known_.emplace_back());
      AddFfn(names, layer, known_.back());
    }
  }

  // True: read by the model, or known not to matter.
  absl::StatusOr<bool> IsKnown(const std::string& name) const {
    if (IsRotaryTable(name)) return true;
    absl::string_view rest = name;
    const std::optional<int32_t> layer = LayerOfTensor(spec_.names, name);
    if (!layer) return IsKnownOutside(name);
    if (*layer < 0) return false;
    const int32_t layers = spec_.layer_count();
    if (*layer >= layers && *layer < layers + spec_.next_token_layers) return true;
    if (*layer >= layers) {
      return Wrong(name, absl::StrCat("layers 0 to ", layers - 1,
                                      ", as many as num_hidden_layers names, found more"));
    }
    if (!absl::ConsumePrefix(&rest, LayerPrefix(spec_.names, *layer))) return false;
    if (absl::StartsWith(rest, spec_.names.expert_prefix)) return IsKnownExpert(name, *layer, rest);
    if (known_[static_cast<size_t>(*layer)].contains(rest)) return true;
    for (const std::string& module : modules_) {
      if (IsBelow(rest, module)) return LeftOut(name, module);
    }
    return false;
  }

 private:
  absl::Status Wrong(absl::string_view tensor, absl::string_view expected) const {
    return absl::InvalidArgumentError(
        absl::StrCat(weights_.folder(), ": tensor ", tensor, ": expected ", expected));
  }

  absl::Status LeftOut(absl::string_view tensor, absl::string_view module) const {
    return Wrong(tensor,
                 absl::StrCat("nothing of ", module,
                              " but what config.json names, found "
                              "this tensor: the config leaves out what the checkpoint has"));
  }

  absl::StatusOr<bool> IsKnownOutside(const std::string& name) const {
    const TensorNames& names = spec_.names;
    const std::string head = WeightName(names.head);
    if (name == head) {
      if (spec_.tied_head) CCOE_RETURN_IF_ERROR(CheckTied(head, WeightName(names.embedding)));
      return true;
    }
    if (name == WeightName(names.embedding) || name == NormName(names, names.final_norm)) {
      return true;
    }
    for (const std::string& module : {names.head, names.embedding, names.final_norm}) {
      if (IsBelow(name, module)) return LeftOut(name, module);
    }
    return false;
  }

  // A bundle's own head has no embedding beside it.
  absl::Status CheckTied(const std::string& head, const std::string& embedding) const {
    if (!weights_.Has(embedding)) return absl::OkStatus();
    CCOE_ASSIGN_OR_RETURN(const TensorView a, weights_.Raw(head));
    CCOE_ASSIGN_OR_RETURN(const TensorView b, weights_.Raw(embedding));
    if (a.dtype == b.dtype && a.shape == b.shape && a.size_bytes == b.size_bytes &&
        (a.size_bytes == 0 || std::memcmp(a.data, b.data, a.size_bytes) == 0)) {
      return absl::OkStatus();
    }
    return Wrong(head, absl::StrCat("the values of ", embedding,
                                    ", since tie_word_embeddings is true, found others"));
  }

  absl::StatusOr<bool> IsKnownExpert(const std::string& name, int32_t layer,
                                     absl::string_view rest) const {
    const TensorNames& names = spec_.names;
    const FfnSpec& ffn = spec_.layers[static_cast<size_t>(layer)].ffn;
    absl::ConsumePrefix(&rest, names.expert_prefix);
    const size_t dot = rest.find('.');
    const absl::string_view number = rest.substr(0, dot);
    int64_t expert = 0;
    // "07" is no name of expert 7.
    if (dot == absl::string_view::npos || !absl::SimpleAtoi(number, &expert) ||
        number != absl::StrCat(expert)) {
      return false;
    }
    if (!ffn.is_moe()) {
      return Wrong(
          name, absl::StrCat("a dense layer ", layer, ", as the config says, found an FFN expert"));
    }
    if (expert < 0 || expert >= ffn.moe.experts) {
      return Wrong(name, absl::StrCat("FFN experts 0 to ", ffn.moe.experts - 1,
                                      ", as many as the config names, found more"));
    }
    rest.remove_prefix(dot + 1);
    for (const std::string& matrix : {names.expert_gate, names.expert_up, names.expert_down}) {
      if (rest == WeightName(matrix)) return true;
      if (IsBelow(rest, matrix))
        return LeftOut(name, absl::StrCat(names.expert_prefix, "*.", matrix));
    }
    return false;
  }

  const ModelSpec& spec_;
  const Weights& weights_;
  const std::vector<std::string> modules_;
  std::vector<NameSet> known_;  // by layer
};

}  // namespace

std::string UnreadTensors::ToString() const {
  if (count == 0) return "";
  const int64_t more = count - static_cast<int64_t>(first.size());
  return absl::StrCat(count, count == 1 ? " tensor is" : " tensors are",
                      " read by nothing: ", absl::StrJoin(first, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "");
}

absl::StatusOr<UnreadTensors> FindUnreadTensors(const ModelSpec& spec, const Weights& weights) {
  const Sorter sorter(spec, weights);
  UnreadTensors unread;
  for (const std::string& name : weights.Names()) {
    CCOE_ASSIGN_OR_RETURN(const bool known, sorter.IsKnown(name));
    if (known) continue;
    ++unread.count;
    if (unread.first.size() < UnreadTensors::kMaxNamed) unread.first.push_back(name);
  }
  return unread;
}

absl::Status CheckAllIsRead(const ModelSpec& spec, const Weights& weights) {
  CCOE_ASSIGN_OR_RETURN(const UnreadTensors unread, FindUnreadTensors(spec, weights));
  if (unread.count > 0 && IsFirstWarning(weights.folder())) {
    LOG(WARNING) << weights.folder() << ": " << unread.ToString();
  }
  return absl::OkStatus();
}

}  // namespace ccoe::model
