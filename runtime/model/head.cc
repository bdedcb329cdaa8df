// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/head.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {

absl::StatusOr<std::unique_ptr<TokenEmbedding>> TokenEmbedding::Create(
    const ModelSpec& spec, std::shared_ptr<const Weights> weights) {
  CCOE_RETURN_IF_ERROR(Validate(spec));
  auto embedding = std::unique_ptr<TokenEmbedding>(new TokenEmbedding());
  CCOE_ASSIGN_OR_RETURN(embedding->table_, weights->Matrix(WeightName(spec.names.embedding),
                                                           spec.vocab_size, spec.hidden_size));
  embedding->spec_ = spec;
  embedding->weights_ = std::move(weights);
  return embedding;
}

absl::Status TokenEmbedding::Embed(absl::Span<const int32_t> ids, kernels::Ops& ops,
                                   kernels::Matrix hidden) const {
  CCOE_CHECK(hidden.rows == static_cast<int64_t>(ids.size()) && hidden.cols == spec_.hidden_size);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= spec_.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("token ", i, ": expected an id from 0 to ",
                                                     spec_.vocab_size - 1, ", found ", ids[i]));
    }
  }
  if (!ids.empty()) ops.EmbedRows(table_, ids, spec_.embedding_multiplier, hidden);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<LmHead>> LmHead::Create(const ModelSpec& spec,
                                                       std::shared_ptr<const Weights> weights,
                                                       std::shared_ptr<const Weights> own) {
  CCOE_RETURN_IF_ERROR(Validate(spec));
  const auto source = [&](const std::string& name) -> const Weights& {
    return own != nullptr && own->Has(name) ? *own : *weights;
  };
  const std::string norm_name = NormName(spec.names, spec.names.final_norm);
  const std::string own_head_name = WeightName(spec.names.head);
  const bool own_head = own != nullptr && own->Has(own_head_name);
  const std::string head_name =
      spec.tied_head && !own_head ? WeightName(spec.names.embedding) : own_head_name;
  auto head = std::unique_ptr<LmHead>(new LmHead());
  CCOE_ASSIGN_OR_RETURN(head->norm_, source(norm_name).Vector(norm_name, spec.hidden_size));
  CCOE_ASSIGN_OR_RETURN(head->head_,
                        source(head_name).Matrix(head_name, spec.vocab_size, spec.hidden_size));
  head->spec_ = spec;
  head->weights_ = std::move(weights);
  head->own_ = std::move(own);
  return head;
}

absl::Status LmHead::Logits(kernels::ConstMatrix hidden, kernels::Ops& ops, kernels::Matrix normed,
                            kernels::Matrix logits) const {
  CCOE_CHECK(hidden.cols == spec_.hidden_size && normed.cols == spec_.hidden_size);
  CCOE_CHECK(normed.rows == hidden.rows && logits.rows == hidden.rows);
  CCOE_CHECK(logits.cols == spec_.vocab_size);
  if (hidden.rows == 0) return absl::OkStatus();
  ops.RmsNorm(hidden, norm_, spec_.norm_eps, normed);
  const kernels::LinearPart part[] = {{head_, {}, logits, /*accumulate=*/false}};
  ops.Linear(normed, part);
  if (spec_.logit_multiplier != 1.0f || spec_.logit_soft_cap > 0.0f) {
    ops.ScaleRows(spec_.logit_multiplier, spec_.logit_soft_cap, logits);
  }
  return absl::OkStatus();
}

}  // namespace ccoe::model
