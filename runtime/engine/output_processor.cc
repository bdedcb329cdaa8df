// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/output_processor.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/device_error.h"
#include "runtime/base/status_macros.h"

namespace ccoe::engine {
namespace {

// Bounds the memory for logits: with a vocabulary of 150 000, 38 MB.
constexpr size_t kHeadRows = ModelRunner::kMaxHeadRows;

// The finaliser of MurmurHash3: each input bit reaches each output bit.
uint64_t Mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

}  // namespace

void OutputProcessor::Deliver(absl::Span<StepEntry> entries, absl::Span<const HeldRows> held,
                              const model::LmHead& head) {
  const std::vector<HeadRow> rows = RowsForHead(entries, held);
  EndSteps(entries);
  for (size_t begin = 0; begin < rows.size(); begin += kHeadRows) {
    const absl::Status status = RunHead(absl::MakeConstSpan(rows).subspan(begin, kHeadRows), head);
    if (!status.ok()) return FailPass(entries, Annotate(status, "LM head"));
  }
  for (StepEntry& entry : entries) {
    const Sequence& sequence = *entry.sequence;
    if (entry.alive() && !sequence.Generates() &&
        sequence.computed_tokens() == sequence.known_tokens()) {
      table_->Finish(entry.sequence, FinishReason::kLength, absl::OkStatus(), clock_.Now());
    }
  }
}

void OutputProcessor::Fail(absl::Span<StepEntry> entries, const absl::Status& status) {
  for (StepEntry& entry : entries) {
    if (entry.alive()) table_->Finish(entry.sequence, FinishReason::kError, status, clock_.Now());
  }
}

void OutputProcessor::FailPass(absl::Span<StepEntry> entries, const absl::Status& status) {
  if (!kernels::IsDeviceFailure(status)) return Fail(entries, status);
  if (device_error_.ok()) {
    device_error_ = absl::UnavailableError(absl::StrCat("the device failed: ", status.message()));
  }
  Fail(entries, device_error_);
}

std::vector<OutputProcessor::HeadRow> OutputProcessor::RowsForHead(
    absl::Span<StepEntry> entries, absl::Span<const HeldRows> held) const {
  std::vector<HeadRow> rows;
  for (size_t i = 0; i < entries.size(); ++i) {
    StepEntry& entry = entries[i];
    if (!entry.alive()) continue;
    const int64_t first = entry.end_position() - held[i].count;
    for (int64_t r = 0; r < held[i].count; ++r) {
      const bool samples = entry.samples() && r == held[i].count - 1;
      if (samples || entry.sequence->WantsLogits(first + r)) {
        rows.push_back({&entry, static_cast<int32_t>(held[i].begin + r), first + r, samples});
      }
    }
  }
  std::stable_partition(rows.begin(), rows.end(), [](const HeadRow& row) { return !row.samples; });
  return rows;
}

void OutputProcessor::EndSteps(absl::Span<StepEntry> entries) {
  for (StepEntry& entry : entries) {
    if (!entry.alive()) continue;
    Sequence& sequence = *entry.sequence;
    table_->EndStep(sequence, entry.row_count);
    prompt_tokens_ += std::max<int64_t>(
        0, std::min(entry.end_position(), sequence.prompt_tokens()) - entry.first_position);
    if (entry.hidden.empty()) continue;
    const int64_t planes =
        static_cast<int64_t>(entry.hidden.size()) / (entry.row_count * runner_->hidden_size());
    sequence.EmitHidden(entry.first_position, entry.row_count, planes, entry.hidden);
    entry.hidden.clear();
  }
}

absl::Status OutputProcessor::RunHead(absl::Span<const HeadRow> rows, const model::LmHead& head) {
  std::vector<int32_t> numbers;
  for (const HeadRow& row : rows) numbers.push_back(row.row);
  CCOE_RETURN_IF_ERROR(runner_->Logits(head, numbers));
  CCOE_RETURN_IF_ERROR(EmitLogits(rows));
  return SampleRows(rows);
}

// Passes on the logits of prompt rows, as many of one sequence at a time as stand together. No
// others leave the device.
absl::Status OutputProcessor::EmitLogits(absl::Span<const HeadRow> rows) {
  for (size_t begin = 0, end = 0; begin < rows.size(); begin = std::max(end, begin + 1)) {
    const StepEntry* entry = rows[begin].entry;
    for (end = begin; end < rows.size() && rows[end].entry == entry; ++end) {
      if (!entry->sequence->WantsLogits(rows[end].position)) break;
    }
    if (end == begin) continue;
    const int64_t count = static_cast<int64_t>(end - begin);
    CCOE_RETURN_IF_ERROR(runner_->ReadLogits(static_cast<int64_t>(begin), count, logits_));
    entry->sequence->EmitLogits(rows[begin].position, count, logits_);
  }
  return absl::OkStatus();
}

absl::Status OutputProcessor::SampleRows(absl::Span<const HeadRow> rows) {
  const auto first =
      std::find_if(rows.begin(), rows.end(), [](const HeadRow& row) { return row.samples; });
  const int64_t begin = first - rows.begin();
  const absl::Span<const HeadRow> sampled = rows.subspan(static_cast<size_t>(begin));
  if (sampled.empty()) return absl::OkStatus();
  std::vector<SampleRequest> requests;
  std::vector<kernels::SampleRow> inputs;
  for (const HeadRow& row : sampled) {
    const Sequence& sequence = *row.entry->sequence;
    SampleRequest& request = requests.emplace_back();
    request.params = &sequence.query().sampling;
    request.counts = &sequence.counts();
    if (sequence.HoldsBackStops()) request.held_back = sequence.stop_ids();
    request.seed = sequence.seed();
    request.position = sequence.known_tokens();
    inputs.push_back(SampleRowFor(request));
  }
  std::vector<kernels::SampledRow> tokens(inputs.size());
  CCOE_RETURN_IF_ERROR(runner_->Sample(begin, inputs, absl::MakeSpan(tokens)));
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (sampled[i].entry->alive()) {
      EndRow(sampled[i].entry->sequence, TokenOf(requests[i], tokens[i]));
    }
  }
  return absl::OkStatus();
}

void OutputProcessor::EndRow(const std::shared_ptr<Sequence>& sequence,
                             const absl::StatusOr<GeneratedToken>& token) {
  if (!token.ok()) {
    const absl::Status error =
        Annotate(token.status(), absl::StrCat("query ", sequence->query().query_id));
    table_->Finish(sequence, FinishReason::kError, error, clock_.Now());
  } else if (sequence->IsStop(token->token_id)) {
    table_->Finish(sequence, FinishReason::kStop, absl::OkStatus(), clock_.Now());
  } else {
    Emit(sequence, *token);
  }
}

void OutputProcessor::Emit(const std::shared_ptr<Sequence>& sequence, const GeneratedToken& token) {
  const absl::Time now = clock_.Now();
  ++generated_tokens_;
  if (observer_ != nullptr) {
    if (sequence->generated_tokens() == 0) {
      observer_->OnFirstToken(now - sequence->submitted());
    } else {
      observer_->OnNextToken(now - sequence->last_token());
    }
  }
  if (table_->Emit(*sequence, token, now))
    table_->Finish(sequence, FinishReason::kLength, absl::OkStatus(), now);
}

double UniformAt(uint64_t seed, int64_t position) {
  const uint64_t key = Mix(seed + 0x9e3779b97f4a7c15ULL);
  const uint64_t bits = Mix(key ^ Mix(static_cast<uint64_t>(position) + 0xd1b54a32d192ed03ULL));
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

kernels::SampleRow SampleRowFor(const SampleRequest& request) {
  const SamplingParams& params = *request.params;
  kernels::SampleRow row;
  row.temperature = params.temperature;
  row.top_k = params.top_k;
  row.top_p = params.top_p;
  row.min_p = params.min_p;
  row.repetition_penalty = params.repetition_penalty;
  row.presence_penalty = params.presence_penalty;
  row.frequency_penalty = params.frequency_penalty;
  if (NeedsCounts(params) && request.counts != nullptr) row.counts = request.counts->entries();
  row.held_back = request.held_back;
  row.uniform = UniformAt(request.seed, request.position);
  row.logprobs = params.logprobs;
  return row;
}

absl::StatusOr<GeneratedToken> TokenOf(const SampleRequest& request,
                                       const kernels::SampledRow& sampled) {
  if (sampled.nonfinite_id >= 0) {
    return absl::InternalError(absl::StrCat("logits for position ", request.position,
                                            ": expected finite numbers, found NaN or an infinity "
                                            "at token id ",
                                            sampled.nonfinite_id));
  }
  if (sampled.token_id < 0) {
    return absl::InternalError(
        absl::StrCat("position ", request.position, ": every token id is held back (min_tokens)"));
  }
  GeneratedToken token;
  token.token_id = sampled.token_id;
  if (request.params->logprobs >= 0) token.logprob = sampled.logprob;
  for (const kernels::TokenLogprob& best : sampled.best) {
    token.best.push_back({best.id, best.logprob});
  }
  return token;
}

}  // namespace ccoe::engine
