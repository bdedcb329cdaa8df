// A pass and its attention blocks.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"
#include "runtime/model/decoder_layer.h"
#include "runtime/model/rope.h"
#include "runtime/model/scratch.h"

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

absl::StatusOr<DecoderPass> Decoder::BeginPass(const RowBatch& batch, const KvStorage& kv,
                                               kernels::Ops& ops, DecoderPass ended) const {
  CCOE_RETURN_IF_ERROR(Annotate(CheckBatch(batch, spec_.max_positions, kv), "decoder"));
  DecoderPass pass;
  pass.batch = batch;
  pass.kv = &kv;
  pass.cos = std::move(ended.cos);
  pass.sin = std::move(ended.sin);
  pass.half_rotary = static_cast<int64_t>(rope_frequencies_.size());
  const std::vector<int64_t> positions = PlaceRows(pass);
  CCOE_RETURN_IF_ERROR(FillRope(spec_.rope, rope_frequencies_, positions, ops, pass));
  return pass;
}

absl::Status Decoder::RunAttention(int32_t layer, const DecoderPass& pass, kernels::Ops& ops,
                                   DecoderScratch& scratch, kernels::Matrix hidden) const {
  const int64_t rows = pass.rows();
  CCOE_RETURN_IF_ERROR(CheckPass({layer, layer + 1}, *pass.kv, rows, hidden));
  if (rows == 0) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR(scratch.Reserve(scratch_widths_, rows));
  AttentionRows attention_rows;
  attention_rows.sequences = pass.batch.sequences;
  attention_rows.slots = pass.slots;
  attention_rows.cos = ScratchView(pass.cos, rows, pass.half_rotary);
  attention_rows.sin = ScratchView(pass.sin, rows, pass.half_rotary);
  attention_rows.rope_style = spec_.rope.style;
  attention_rows.norm_eps = spec_.norm_eps;
  attention_rows.cache = pass.kv->Layer(layer);

  const AttentionSpec& spec = spec_.layers[static_cast<size_t>(layer)].attention;
  const Layer& bound = BoundLayer(layer);
  const int64_t q_size = spec.heads * spec.head_dim;
  const int64_t kv_size = spec.kv_heads * spec.head_dim;
  const kernels::Matrix normed = ScratchView(scratch.normed_, rows, spec_.hidden_size);
  const kernels::Matrix q = ScratchView(scratch.q_, rows, q_size);
  const kernels::Matrix k = ScratchView(scratch.k_, rows, kv_size);
  const kernels::Matrix attended = ScratchView(scratch.attention_, rows, q_size);
  if (spec.is_latent()) {
    const LatentSpec& latent = spec.latent;
    RunLatentAttention(spec, bound.latent, attention_rows,
                       {normed, ScratchView(scratch.q_down_, rows, latent.q_rank),
                        ScratchView(scratch.nope_, rows, spec.heads * latent.nope_dim), q, k,
                        attended, ScratchView(scratch.v_, rows, spec.heads * latent.value_dim)},
                       ops, hidden);
  } else {
    model::RunAttention(spec, bound.attention, attention_rows,
                        {normed, q, k, ScratchView(scratch.v_, rows, kv_size), attended}, ops,
                        hidden);
  }
  return absl::OkStatus();
}

}  // namespace ccoe::model
