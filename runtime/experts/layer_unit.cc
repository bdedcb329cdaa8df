// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/layer_unit.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/swap_result.h"

namespace ccoe::experts {
namespace {

int64_t WeightBytes(const model::Weights& weights) {
  int64_t bytes = 0;
  for (const std::string& name : weights.Names()) {
    const absl::StatusOr<model::TensorView> tensor = weights.Raw(name);
    if (tensor.ok()) bytes += static_cast<int64_t>(tensor->size_bytes);
  }
  return bytes;
}

// One pass: rows in, layers, rows out, piece by piece.
class LayerPass {
 public:
  LayerPass(const model::Decoder& decoder, const model::KvStorage& storage,
            absl::Span<const WaitingSwap> swaps, const model::RowBatch& batch, PassMemory& memory)
      : decoder_(decoder),
        storage_(storage),
        swaps_(swaps),
        batch_(batch),
        memory_(memory),
        results_(swaps, memory.hidden_size()) {
    FindRuns();
  }

  absl::Status Run() {
    const int64_t rows = batch_.rows(), most = memory_.limits().rows;
    for (int64_t begin = 0; begin < rows; begin += most) {
      CCOE_RETURN_IF_ERROR(RunPiece(begin, std::min(rows, begin + most)));
    }
    return absl::OkStatus();
  }
  std::vector<exchange::SwapResult> TakeResults() { return std::move(results_).Take(); }

 private:
  void FindRuns() {
    int64_t row = 0;
    for (size_t s = 0; s < swaps_.size(); ++s) {
      int64_t sent = 0, returned = 0;
      const std::vector<exchange::SwapSequence>& sequences = swaps_[s].layers().sequences;
      for (size_t i = 0; i < sequences.size(); ++i) {
        const int64_t count = sequences[i].row_count, back = sequences[i].returned();
        if (swaps_[s].computes(i)) {
          AppendRun(sent_, {s, sent, row, count});
          AppendRun(returned_, {s, returned, row + count - back, back});
          row += count;
          returned += back;
        }
        sent += count;
      }
    }
  }

  absl::Status RunPiece(int64_t begin, int64_t end) {
    const std::vector<RowRun> sent = CutRuns(sent_, begin, end);
    CCOE_RETURN_IF_ERROR(memory_.TakeIn(swaps_, sent));
    const kernels::Matrix rows = memory_.Rows(end - begin);
    const model::RowBatch batch = Cut(begin, end);
    if (swaps_.front().layers().capture_layers) {
      CCOE_RETURN_IF_ERROR(RunAndCapture(batch, sent, rows));
    } else {
      CCOE_RETURN_IF_ERROR(
          decoder_.Run(decoder_.layers(), batch, storage_, memory_.ops(), memory_.decoder(), rows));
    }
    return results_.Give(rows, CutRuns(returned_, begin, end), memory_.ops());
  }

  // A sequence's rows may be cut: those behind see the KV of those before.
  model::RowBatch Cut(int64_t begin, int64_t end) const {
    model::RowBatch cut;
    for (const kernels::SequenceRows& all : batch_.sequences) {
      const int64_t first = std::max(all.row_begin, begin);
      const int64_t last = std::min(all.row_begin + all.row_count, end);
      if (first >= last) continue;
      cut.sequences.push_back({first - begin, last - first,
                               all.first_position + (first - all.row_begin), all.block_table});
    }
    return cut;
  }

  absl::Status RunAndCapture(const model::RowBatch& batch, absl::Span<const RowRun> runs,
                             kernels::Matrix rows) {
    absl::Status copied = absl::OkStatus();
    const auto copy = [&](int32_t layer, kernels::ConstMatrix output) {
      copied.Update(memory_.ops().Synchronize());
      const int64_t first = (layer - decoder_.layers().first) * swaps_.front().header().rows();
      for (const RowRun& run : runs) {
        float* const to = results_.result(run.swap).captured.data() +
                          (first + run.swap_row) * memory_.hidden_size();
        copied.Update(memory_.device().CopyToHost(
            output.Slice(run.pass_row, run.count).data, to,
            static_cast<size_t>(run.count * memory_.hidden_size()) * sizeof(float)));
      }
    };
    model::DecoderPass& pass = memory_.decoder().pass();
    CCOE_ASSIGN_OR_RETURN(pass,
                          decoder_.BeginPass(batch, storage_, memory_.ops(), std::move(pass)));
    CCOE_RETURN_IF_ERROR(
        decoder_.RunLayers(decoder_.layers(), pass, memory_.ops(), memory_.decoder(), rows, copy));
    return copied;
  }

  const model::Decoder& decoder_;
  const model::KvStorage& storage_;
  const absl::Span<const WaitingSwap> swaps_;
  const model::RowBatch& batch_;
  PassMemory& memory_;
  PassResults results_;
  std::vector<RowRun> sent_, returned_;
};

}  // namespace

absl::StatusOr<std::vector<exchange::SwapResult>> RunLayerPass(const model::Decoder& decoder,
                                                               const model::KvStorage& storage,
                                                               absl::Span<const WaitingSwap> swaps,
                                                               const model::RowBatch& batch,
                                                               PassMemory& memory) {
  LayerPass pass(decoder, storage, swaps, batch, memory);
  if (absl::Status run = pass.Run(); !run.ok()) {
    // What still runs may touch the swaps' rows and the results', which go now.
    run.Update(memory.ops().Synchronize());
    return run;
  }
  return pass.TakeResults();
}

absl::StatusOr<std::unique_ptr<LayerUnit>> LayerUnit::Create(const model::ModelSpec& spec,
                                                             const Bundle& bundle,
                                                             const model::KvStorageOptions& kv,
                                                             kernels::Device* device) {
  const std::string name = absl::StrCat("expert ", bundle.manifest.expert.ToString());
  auto decoder = model::Decoder::Create(spec, bundle.manifest.layers, bundle.weights);
  if (!decoder.ok()) return Annotate(decoder.status(), name);
  auto storage = model::KvStorage::Create(device, spec, kv);
  if (!storage.ok()) return Annotate(storage.status(), name);
  auto unit = absl::WrapUnique(new LayerUnit(*std::move(decoder), *std::move(storage),
                                             UnitKv(kv.pages, kv.page_tokens, spec.max_positions)));
  unit->load_.expert = bundle.manifest.expert;
  unit->load_.layers = bundle.manifest.layers;
  unit->load_.weight_bytes = WeightBytes(*bundle.weights);
  return unit;
}

ExpertLoad LayerUnit::Load() const {
  ExpertLoad load = load_;
  load.kv_tokens_used = kv_.used_tokens();
  load.kv_tokens_total = kv_.total_tokens();
  return load;
}

model::RowBatch LayerUnit::Admit(absl::Time now, std::vector<WaitingSwap>& swaps,
                                 std::vector<WaitingSwap>& refused) {
  model::RowBatch batch;
  std::vector<WaitingSwap> admitted;
  for (WaitingSwap& swap : swaps) {
    for (size_t i = 0; i < swap.layers().sequences.size(); ++i) {
      if (!swap.computes(i)) continue;
      const exchange::SwapSequence& sequence = swap.layers().sequences[i];
      absl::Status room = kv_.Admit(swap.peer_id, sequence, now);
      if (!room.ok()) {
        swap.LeaveOut(i, Annotate(room, absl::StrCat("expert ", expert().ToString())));
        continue;
      }
      batch.sequences.push_back({batch.rows(), sequence.row_count, sequence.first_position,
                                 kv_.Table(swap.peer_id, sequence.sequence_id)});
    }
    (swap.computes_any() ? admitted : refused).push_back(std::move(swap));
  }
  swaps = std::move(admitted);
  return batch;
}

void LayerUnit::Settle(absl::Span<const WaitingSwap> swaps, bool computed) {
  ++load_.batches;
  for (const WaitingSwap& swap : swaps) {
    ++load_.swaps;
    for (size_t i = 0; i < swap.layers().sequences.size(); ++i) {
      if (!swap.computes(i)) continue;
      const exchange::SwapSequence& sequence = swap.layers().sequences[i];
      load_.rows += sequence.row_count;
      if (computed) {
        kv_.Commit(swap.peer_id, sequence);
      } else {
        kv_.Abandon(swap.peer_id, sequence);
      }
    }
  }
}

using exchange::SwapError;
using exchange::SwapReason;
using exchange::SwapSequence;

absl::Status UnitKv::Check(const Held* held, const SwapSequence& sequence) const {
  const int64_t end = sequence.first_position + sequence.row_count;
  if (end > total_tokens() || end > max_positions_) {
    return SwapError(SwapReason::kTooLong,
                     absl::StrCat("sequence ", sequence.sequence_id, " grows to ", end,
                                  " tokens; the expert's whole KV cache holds ", total_tokens(),
                                  ", and the model has at most ", max_positions_, " positions"));
  }
  const int64_t tokens = held == nullptr ? 0 : held->tokens;
  if (sequence.first_position > tokens) {
    return SwapError(SwapReason::kKvLost,
                     absl::StrCat("KV of sequence ", sequence.sequence_id, ": expected ",
                                  sequence.first_position, " tokens before the swap's rows, found ",
                                  tokens, "; recompute from position 0"));
  }
  return absl::OkStatus();
}

absl::Status UnitKv::CheckPages(uint64_t peer_id, uint64_t sequence_id, int64_t more,
                                absl::Time now) {
  Peer& peer = peers_[peer_id];
  int64_t sharers = 1;
  bool others_wait = false;
  for (const auto& [id, other] : peers_) {
    if (id == peer_id) continue;
    const bool waits = other.claim > now;
    others_wait = others_wait || waits;
    if (waits || other.pages > 0) ++sharers;
  }
  const int64_t share = pages_.pages() / sharers;
  const bool within_share = peer.pages + more <= share;
  if (more <= pages_.free_pages() && (within_share || !others_wait)) {
    peer.claim = absl::InfinitePast();
    return absl::OkStatus();
  }
  if (within_share) peer.claim = now + kClaim;
  return SwapError(
      SwapReason::kNoPages,
      absl::StrCat("out of KV pages: sequence ", sequence_id, " needs ", more, " more of ",
                   pages_.page_tokens(), " tokens, ", pages_.free_pages(), " of ", pages_.pages(),
                   " are free",
                   more <= pages_.free_pages()
                       ? absl::StrCat(" and kept for peers below their share of ", share)
                       : ""));
}

void UnitKv::Resize(uint64_t peer_id, int64_t tokens, model::BlockTable& table) {
  const auto before = static_cast<int64_t>(table.size());
  CCOE_CHECK(pages_.Grow(tokens, table).ok());
  pages_.Shrink(tokens, table);
  const auto peer = peers_.try_emplace(peer_id).first;
  peer->second.pages += static_cast<int64_t>(table.size()) - before;
  if (peer->second.pages == 0 && peer->second.claim == absl::InfinitePast()) peers_.erase(peer);
}

absl::Status UnitKv::Admit(uint64_t peer_id, const SwapSequence& sequence, absl::Time now) {
  const Key key = {peer_id, sequence.sequence_id};
  const auto found = held_.find(key);
  const Held* const before = found == held_.end() ? nullptr : &found->second;
  CCOE_RETURN_IF_ERROR(Check(before, sequence));
  const int64_t end = sequence.first_position + sequence.row_count;
  const auto pages = before == nullptr ? 0 : static_cast<int64_t>(before->table.size());
  if (const int64_t more = pages_.PagesFor(end) - pages; more > 0) {
    CCOE_RETURN_IF_ERROR(CheckPages(peer_id, sequence.sequence_id, more, now));
  }
  Held& held = held_[key];
  CCOE_CHECK(!held.in_pass);
  Resize(peer_id, end, held.table);
  held.tokens = sequence.first_position;
  held.in_pass = true;
  return absl::OkStatus();
}

void UnitKv::Settle(uint64_t peer_id, const SwapSequence& sequence, int64_t tokens) {
  const auto held = held_.find({peer_id, sequence.sequence_id});
  CCOE_CHECK(held != held_.end() && held->second.in_pass);
  held->second.in_pass = false;
  held->second.tokens = held->second.released ? 0 : tokens;
  if (held->second.tokens == 0) {
    Free(held);
  } else {
    Resize(peer_id, tokens, held->second.table);
  }
}

void UnitKv::Commit(uint64_t peer_id, const SwapSequence& sequence) {
  Settle(peer_id, sequence, sequence.first_position + sequence.row_count);
}

void UnitKv::Abandon(uint64_t peer_id, const SwapSequence& sequence) {
  Settle(peer_id, sequence, sequence.first_position);
}

const model::BlockTable& UnitKv::Table(uint64_t peer_id, uint64_t sequence_id) const {
  return held_.at({peer_id, sequence_id}).table;
}

std::map<UnitKv::Key, UnitKv::Held>::iterator UnitKv::Free(std::map<Key, Held>::iterator held) {
  Resize(held->first.first, 0, held->second.table);
  return held_.erase(held);
}

void UnitKv::Release(uint64_t peer_id, uint64_t sequence_id) {
  const auto held = held_.find({peer_id, sequence_id});
  if (held == held_.end()) return;
  if (held->second.in_pass) {
    held->second.released = true;
  } else {
    Free(held);
  }
}

void UnitKv::ReleasePeer(uint64_t peer_id) {
  auto held = held_.lower_bound({peer_id, 0});
  while (held != held_.end() && held->first.first == peer_id) held = Free(held);
  peers_.erase(peer_id);
}

}  // namespace ccoe::experts
