// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/decoder_pass.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/attention.h"

namespace ccoe::model {
namespace {

absl::Status CheckSequence(const kernels::SequenceRows& sequence, int64_t max_positions,
                           const KvStorage& kv) {
  if (sequence.row_count < 1 || sequence.first_position < 0 ||
      sequence.row_count > max_positions - sequence.first_position) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected positions within the context of ", max_positions, " tokens, found ",
                     sequence.row_count, " rows from position ", sequence.first_position));
  }
  const int64_t tokens = sequence.first_position + sequence.row_count;
  const int64_t pages = (tokens + kv.page_tokens() - 1) / kv.page_tokens();
  if (static_cast<int64_t>(sequence.block_table.size()) < pages) {
    return absl::InvalidArgumentError(absl::StrCat("block table: expected ", pages, " pages for ",
                                                   tokens, " tokens, found ",
                                                   sequence.block_table.size()));
  }
  for (const int32_t page : sequence.block_table.first(static_cast<size_t>(pages))) {
    if (page < 0 || page >= kv.pages()) {
      return absl::InvalidArgumentError(
          absl::StrCat("block table: expected pages 0 to ", kv.pages() - 1, ", found ", page));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBatch(const RowBatch& batch, int64_t max_positions, const KvStorage& kv) {
  int64_t next_row = 0;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const kernels::SequenceRows& sequence = batch.sequences[i];
    if (sequence.row_begin != next_row) {
      return absl::InvalidArgumentError(absl::StrCat("sequence ", i, ": expected first row ",
                                                     next_row, ", found ", sequence.row_begin));
    }
    CCOE_RETURN_IF_ERROR(
        Annotate(CheckSequence(sequence, max_positions, kv), absl::StrCat("sequence ", i)));
    next_row += sequence.row_count;
  }
  return absl::OkStatus();
}

// Fills pass.slots; the rows' positions in their sequences.
std::vector<int64_t> PlaceRows(DecoderPass& pass) {
  const int64_t page_tokens = pass.kv->page_tokens();
  std::vector<int64_t> positions;
  positions.reserve(static_cast<size_t>(pass.rows()));
  pass.slots.reserve(static_cast<size_t>(pass.rows()));
  for (const kernels::SequenceRows& sequence : pass.batch.sequences) {
    for (int64_t i = 0; i < sequence.row_count; ++i) {
      const int64_t position = sequence.first_position + i;
      const int64_t page = sequence.block_table[static_cast<size_t>(position / page_tokens)];
      positions.push_back(position);
      pass.slots.push_back(page * page_tokens + position % page_tokens);
    }
  }
  return positions;
}

// The angles are made by the ops, in their order: nothing is uploaded, and what still runs of the
// pass before has read its own by then. Only memory that grows has to be waited for.
absl::Status FillRope(const RopeSpec& spec, absl::Span<const float> frequencies,
                      absl::Span<const int64_t> positions, kernels::Ops& ops, DecoderPass& pass) {
  const int64_t rows = pass.rows();
  const int64_t values = rows * pass.half_rotary;
  const size_t held = pass.cos.size_bytes();
  if (held > 0 && held < static_cast<size_t>(values) * sizeof(float)) {
    CCOE_RETURN_IF_ERROR(ops.Synchronize());
  }
  CCOE_RETURN_IF_ERROR(GrowScratch(&ops.device(), values, pass.cos));
  CCOE_RETURN_IF_ERROR(GrowScratch(&ops.device(), values, pass.sin));
  ops.RopeAngles({positions, frequencies, RopeMagnitude(spec),
                  ScratchView(pass.cos, rows, pass.half_rotary),
                  ScratchView(pass.sin, rows, pass.half_rotary)});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DecoderPass> DecoderPass::Begin(const ModelSpec& spec,
                                               absl::Span<const float> rope_frequencies,
                                               const RowBatch& batch, const KvStorage& kv,
                                               kernels::Ops& ops, DecoderPass ended) {
  CCOE_RETURN_IF_ERROR_IN(CheckBatch(batch, spec.max_positions, kv), "decoder");
  DecoderPass pass;
  pass.batch = batch;
  pass.kv = &kv;
  pass.cos = std::move(ended.cos);
  pass.sin = std::move(ended.sin);
  pass.half_rotary = static_cast<int64_t>(rope_frequencies.size());
  const std::vector<int64_t> positions = PlaceRows(pass);
  CCOE_RETURN_IF_ERROR(FillRope(spec.rope, rope_frequencies, positions, ops, pass));
  return pass;
}

absl::Status DecoderPass::Reserve(kernels::Device* device, const ModelSpec& spec, int64_t rows) {
  const int64_t values = rows * ((RotaryDim(spec) + 1) / 2);
  CCOE_RETURN_IF_ERROR(GrowScratch(device, values, cos));
  return GrowScratch(device, values, sin);
}

ScratchWidths::ScratchWidths(const ModelSpec& spec) : hidden(spec.hidden_size) {
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    const LatentSpec& latent = attention.latent;
    const int64_t kv = attention.kv_heads * attention.head_dim;
    q = std::max(q, attention.heads * attention.head_dim);
    k = std::max(k, kv);
    v = std::max(v, attention.is_latent() ? attention.heads * latent.value_dim : kv);
    q_rank = std::max(q_rank, latent.q_rank);
    nope = std::max(nope, attention.heads * latent.nope_dim);
    intermediate = std::max(intermediate, layer.ffn.intermediate);
  }
}

absl::Status DecoderScratch::Reserve(const ScratchWidths& widths, int64_t rows) {
  const std::pair<kernels::Buffer&, int64_t> parts[] = {{normed_, widths.hidden},
                                                        {q_, widths.q},
                                                        {k_, widths.k},
                                                        {v_, widths.v},
                                                        {attention_, widths.q},
                                                        {q_down_, widths.q_rank},
                                                        {nope_, widths.nope},
                                                        {gate_, widths.intermediate},
                                                        {up_, widths.intermediate}};
  for (const auto& [buffer, cols] : parts) {
    CCOE_RETURN_IF_ERROR(GrowScratch(device_, rows * cols, buffer));
  }
  return absl::OkStatus();
}

absl::Status DecoderScratch::ReservePasses(const ModelSpec& spec, int64_t rows) {
  CCOE_RETURN_IF_ERROR(Reserve(ScratchWidths(spec), rows));
  CCOE_RETURN_IF_ERROR(ended_.Reserve(device_, spec, rows));
  CCOE_RETURN_IF_ERROR(choices_.Begin(spec, {0, spec.layer_count()}, rows));
  return moe_.Reserve(spec, rows);
}

}  // namespace ccoe::model
