#include "runtime/model/decoder.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/attention.h"
#include "runtime/model/ffn.h"
#include "runtime/model/rope.h"

namespace ccoe::model {
namespace {

std::string RangeText(LayerRange range) {
  return absl::StrCat("[", range.first, ", ", range.last, ")");
}

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

// Each row's position in its sequence and its slot in the cache.
struct RowPlaces {
  std::vector<int64_t> positions;
  std::vector<int64_t> slots;
};

RowPlaces PlacesOf(const RowBatch& batch, int64_t page_tokens) {
  RowPlaces places;
  places.positions.reserve(static_cast<size_t>(batch.rows()));
  places.slots.reserve(static_cast<size_t>(batch.rows()));
  for (const kernels::SequenceRows& sequence : batch.sequences) {
    for (int64_t i = 0; i < sequence.row_count; ++i) {
      const int64_t position = sequence.first_position + i;
      const int64_t page = sequence.block_table[static_cast<size_t>(position / page_tokens)];
      places.positions.push_back(position);
      places.slots.push_back(page * page_tokens + position % page_tokens);
    }
  }
  return places;
}

}  // namespace

struct Decoder::Layer {
  AttentionWeights attention;
  FfnWeights ffn;
};

Decoder::Decoder(const ModelSpec& spec, LayerRange layers, std::shared_ptr<const Weights> weights)
    : spec_(spec),
      layers_(layers),
      weights_(std::move(weights)),
      rope_frequencies_(RopeFrequencies(spec.rope, spec.layers[0].attention.head_dim)) {}

Decoder::~Decoder() = default;

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const ModelSpec& spec, LayerRange layers,
                                                         std::shared_ptr<const Weights> weights) {
  CCOE_RETURN_IF_ERROR(Validate(spec));
  const LayerRange whole{0, spec.layer_count()};
  if (layers.empty() || !whole.Contains(layers)) {
    return absl::InvalidArgumentError(absl::StrCat("decoder layers: expected a range within ",
                                                   RangeText(whole), ", found ",
                                                   RangeText(layers)));
  }
  auto decoder = std::unique_ptr<Decoder>(new Decoder(spec, layers, std::move(weights)));
  for (int32_t i = layers.first; i < layers.last; ++i) {
    const LayerSpec& layer = spec.layers[static_cast<size_t>(i)];
    const std::string prefix = absl::StrCat("model.layers.", i);
    CCOE_ASSIGN_OR_RETURN(
        AttentionWeights attention,
        BindAttention(layer.attention, spec.hidden_size, prefix, *decoder->weights_));
    CCOE_ASSIGN_OR_RETURN(FfnWeights ffn,
                          BindFfn(layer.ffn, spec.hidden_size, prefix, *decoder->weights_));
    decoder->bound_.push_back({attention, ffn});
  }
  return decoder;
}

absl::Status Decoder::Run(LayerRange range, const RowBatch& batch, const KvStorage& kv,
                          kernels::Ops& ops, DecoderScratch& scratch,
                          kernels::Matrix hidden) const {
  return Run(range, batch, kv, ops, scratch, hidden, [](int32_t, kernels::ConstMatrix) {});
}

absl::Status Decoder::Run(LayerRange range, const RowBatch& batch, const KvStorage& kv,
                          kernels::Ops& ops, DecoderScratch& scratch, kernels::Matrix hidden,
                          LayerObserver observer) const {
  if (!layers_.Contains(range) || !kv.layers().Contains(range)) {
    return absl::InvalidArgumentError(
        absl::StrCat("decoder: expected layers within ", RangeText(layers_), " and the KV cache's ",
                     RangeText(kv.layers()), ", found ", RangeText(range)));
  }
  const int64_t rows = batch.rows();
  if (hidden.rows != rows || hidden.cols != spec_.hidden_size ||
      hidden.dtype != kernels::DType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat("decoder: hidden: expected [", rows, ", ", spec_.hidden_size, "] f32, found [",
                     hidden.rows, ", ", hidden.cols, "] ", kernels::DTypeName(hidden.dtype)));
  }
  if (rows == 0) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR(Annotate(CheckBatch(batch, spec_.max_positions, kv), "decoder"));
  CCOE_RETURN_IF_ERROR(scratch.Reserve(spec_, rows));

  const RowPlaces places = PlacesOf(batch, kv.page_tokens());
  AttentionRows attention_rows;
  attention_rows.sequences = batch.sequences;
  attention_rows.slots = places.slots;
  attention_rows.rope_style = spec_.rope.style;
  attention_rows.norm_eps = spec_.norm_eps;
  CCOE_RETURN_IF_ERROR(scratch.FillRope(rope_frequencies_, places.positions));
  const int64_t half = static_cast<int64_t>(rope_frequencies_.size());
  attention_rows.cos = kernels::F32Matrix(scratch.cos_.f32(), rows, half);
  attention_rows.sin = kernels::F32Matrix(scratch.sin_.f32(), rows, half);

  for (int32_t i = range.first; i < range.last; ++i) {
    attention_rows.cache = kv.Layer(i);
    RunLayer(i, attention_rows, ops, scratch, hidden);
    observer(i, hidden);
  }
  return absl::OkStatus();
}

void Decoder::RunLayer(int32_t layer, const AttentionRows& rows, kernels::Ops& ops,
                       DecoderScratch& scratch, kernels::Matrix hidden) const {
  const LayerSpec& spec = spec_.layers[static_cast<size_t>(layer)];
  const Layer& bound = bound_[static_cast<size_t>(layer - layers_.first)];
  const auto view = [&](const kernels::Buffer& buffer, int64_t cols) {
    return kernels::F32Matrix(buffer.f32(), hidden.rows, cols);
  };
  const int64_t q_size = spec.attention.heads * spec.attention.head_dim;
  const int64_t kv_size = spec.attention.kv_heads * spec.attention.head_dim;
  const kernels::Matrix normed = view(scratch.normed_, spec_.hidden_size);
  RunAttention(spec.attention, bound.attention, rows,
               {normed, view(scratch.q_, q_size), view(scratch.k_, kv_size),
                view(scratch.v_, kv_size), view(scratch.attention_, q_size)},
               ops, hidden);
  RunFfn(spec.ffn, bound.ffn, spec_.norm_eps,
         {normed, view(scratch.gate_, spec.ffn.intermediate),
          view(scratch.up_, spec.ffn.intermediate)},
         ops, hidden);
}

}  // namespace ccoe::model
