// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/sequence.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"

namespace ccoe::engine {

bool NeedsCounts(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
         params.frequency_penalty != 0.0f;
}

Sequence::Sequence(SequenceInit init)
    : init_(std::move(init)),
      prompt_tokens_(static_cast<int64_t>(init_.query.prompt.size())),
      tokens_(init_.query.prompt),
      counting_(NeedsCounts(init_.query.sampling)) {
  if (counting_) counts_.AddPrompt(tokens_);
}

absl::Span<const int32_t> Sequence::Tokens(int64_t first, int64_t count) const {
  CCOE_CHECK(first >= 0 && count >= 0 && first + count <= known_tokens());
  return absl::MakeConstSpan(tokens_).subspan(first, count);
}

bool Sequence::IsStop(int32_t id) const {
  return std::find(init_.stop_ids.begin(), init_.stop_ids.end(), id) != init_.stop_ids.end();
}

bool Sequence::SharesKv(const ExpertBinding& binding) const {
  return init_.binding != nullptr && init_.binding->link == binding.link &&
         init_.binding->expert == binding.expert;
}

void Sequence::MoveTo(SequenceState from, SequenceState to) {
  CCOE_CHECK(state_ == from);
  state_ = to;
}

void Sequence::Admit(uint64_t link_id, absl::Time now) {
  MoveTo(SequenceState::kWaiting, SequenceState::kRunnable);
  link_id_ = link_id;
  swapped = false;
  admitted_ = std::min(admitted_, now);
}

void Sequence::BeginStep(uint64_t step_id) {
  MoveTo(SequenceState::kRunnable, SequenceState::kInStep);
  last_step_ = step_id;
}

void Sequence::EndStep(int64_t rows) {
  MoveTo(SequenceState::kInStep, SequenceState::kRunnable);
  computed_ += rows;
  CCOE_CHECK(computed_ <= known_tokens());
  recovery.GotOn();
}

void Sequence::AbortStep() { MoveTo(SequenceState::kInStep, SequenceState::kRunnable); }

void Sequence::Preempt() {
  MoveTo(SequenceState::kRunnable, SequenceState::kWaiting);
  CCOE_CHECK(pages_.empty());
  computed_ = 0;
  ++preemptions_;
}

void Sequence::Rebind(std::shared_ptr<const ExpertBinding> replica) {
  CCOE_CHECK(state_ == SequenceState::kWaiting && init_.binding != nullptr && !swapped);
  const bool had_one = init_.binding->link != nullptr;
  numerics_changed_ =
      numerics_changed_ || (had_one && replica->numerics != init_.binding->numerics);
  init_.binding = std::move(replica);
}

void Sequence::Finish(FinishReason reason, const absl::Status& status, absl::Time now) {
  CCOE_CHECK(!finished());
  state_ = SequenceState::kFinished;
  init_.sink->OnFinish(reason, status, UsageAt(now));
  init_.sink.reset();
}

bool Sequence::Emit(const GeneratedToken& token, absl::Time now) {
  CCOE_CHECK(!finished());
  tokens_.push_back(token.token_id);
  if (counting_) counts_.AddAnswer(token.token_id);
  first_token_ = std::min(first_token_, now);
  last_token_ = now;
  recovery = {};
  init_.sink->OnToken(token);
  return generated_tokens() >= init_.max_tokens;
}

bool Sequence::WantsLogits(int64_t position) const {
  return init_.query.prompt_logits && position >= logits_emitted_ && position < prompt_tokens_;
}

bool Sequence::WantsHidden(int64_t first_position, int64_t rows) const {
  return init_.query.prompt_hidden && first_position + rows > hidden_emitted_ &&
         first_position < prompt_tokens_;
}

void Sequence::EmitLogits(int64_t first_position, int64_t rows, absl::Span<const float> logits) {
  CCOE_CHECK(first_position == logits_emitted_);
  logits_emitted_ += rows;
  init_.sink->OnLogits(first_position, logits);
}

void Sequence::EmitHidden(int64_t first_position, int64_t rows, int64_t planes,
                          absl::Span<const float> hidden) {
  CCOE_CHECK(first_position <= hidden_emitted_);
  const int64_t begin = hidden_emitted_ - first_position;
  const int64_t count = std::min(rows, prompt_tokens_ - first_position) - begin;
  if (count <= 0) return;
  const int64_t first = hidden_emitted_;
  hidden_emitted_ += count;
  if (count == rows) {
    init_.sink->OnHidden(first, rows, planes, hidden);
    return;
  }
  const int64_t width = static_cast<int64_t>(hidden.size()) / (planes * rows);
  std::vector<float> wanted;
  wanted.reserve(planes * count * width);
  for (int64_t plane = 0; plane < planes; ++plane) {
    const auto part = hidden.subspan((plane * rows + begin) * width, count * width);
    wanted.insert(wanted.end(), part.begin(), part.end());
  }
  init_.sink->OnHidden(first, count, planes, wanted);
}

void Sequence::EmitRouting(int64_t first_position, int64_t rows, int64_t row_begin,
                           const model::RoutedRows& routed) const {
  if (!init_.query.routing || finished()) return;
  const auto from = absl::MakeConstSpan(routed.offsets).subspan(row_begin, rows + 1);
  const size_t begin = static_cast<size_t>(from.front());
  const size_t count = static_cast<size_t>(from.back()) - begin;
  std::vector<int32_t> offsets(from.begin(), from.end());
  for (int32_t& offset : offsets) offset -= from.front();
  init_.sink->OnRouting(routed.layer, first_position, offsets,
                        absl::MakeConstSpan(routed.experts).subspan(begin, count),
                        absl::MakeConstSpan(routed.weights).subspan(begin, count));
}

Usage Sequence::UsageAt(absl::Time now) const {
  Usage usage;
  usage.prompt_tokens = prompt_tokens_;
  usage.generated_tokens = generated_tokens();
  usage.preemptions = preemptions_;
  usage.failovers = failovers_;
  usage.numerics_changed = numerics_changed_;
  const absl::Time admitted = std::min(admitted_, now);
  const absl::Time first = std::min(first_token_, now);
  usage.queue_time = admitted - init_.submitted;
  usage.prefill_time = first - admitted;
  usage.decode_time = now - first;
  return usage;
}

}  // namespace ccoe::engine
