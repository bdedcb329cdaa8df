// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/sample_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/sample.h"
#include "kernels/sample_math.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
constexpr size_t kSlackBytes = 1024;  // of rounding, in a block of host arrays

bool IsAdjusted(const SampleRow& row) { return !row.counts.empty() || !row.held_back.empty(); }

int64_t BestCount(const SampleRow& row, int64_t vocab) {
  return std::clamp<int64_t>(row.logprobs, 0, vocab);
}

// What consecutive rows need together.
struct Needs {
  int64_t counts = 0, held_back = 0, best = 0, adjusted = 0, rows = 0;

  void Add(const SampleRow& row, int64_t vocab) {
    counts += static_cast<int64_t>(row.counts.size());
    held_back += static_cast<int64_t>(row.held_back.size());
    best += BestCount(row, vocab);
    adjusted += IsAdjusted(row) ? 1 : 0;
    ++rows;
  }
  size_t bytes_in() const {
    return rows * sizeof(SampleRowParams) + counts * sizeof(TokenCount) +
           held_back * sizeof(int32_t);
  }
  size_t result_bytes() const { return rows * sizeof(SampleRowResult); }
  size_t bytes_out() const { return result_bytes() + best * sizeof(SampledLogit); }
  bool Fit(size_t block_bytes, int64_t vocab) const {
    return std::max(bytes_in(), bytes_out()) + kSlackBytes <= block_bytes &&
           adjusted * vocab * static_cast<int64_t>(sizeof(float)) <= kWorkspaceBytes;
  }
};

// A row's parameters; `done` are the rows before it, `copies` their room in the workspace.
SampleRowParams ParamsOf(const SampleRow& row, const float* logits, int64_t vocab,
                         const Needs& done, float* copies) {
  SampleRowParams p = {};
  p.logits = logits;
  p.adjusted = IsAdjusted(row) ? copies + done.adjusted * vocab : nullptr;
  p.counts_begin = done.counts;
  p.counts_end = done.counts + static_cast<int64_t>(row.counts.size());
  p.held_back_begin = done.held_back;
  p.held_back_end = done.held_back + static_cast<int64_t>(row.held_back.size());
  p.best_begin = done.best;
  p.uniform = FractionOf(row.uniform);
  p.has_top_p = row.top_p < 1.0f ? 1 : 0;
  p.top_p = p.has_top_p != 0 ? FractionOf(row.top_p) : 0;
  p.min_weight = LeastWeight(row.min_p);
  p.top_k = row.top_k < vocab ? row.top_k : 0;
  p.logprobs = row.logprobs < 0 ? -1 : static_cast<int32_t>(BestCount(row, vocab));
  p.temperature = row.temperature;
  p.repetition_penalty = row.repetition_penalty;
  p.presence_penalty = row.presence_penalty;
  p.frequency_penalty = row.frequency_penalty;
  return p;
}

SampledRow RowOf(const SampleRow& row, const SampleRowResult& result,
                 absl::Span<SampledLogit> best) {
  SampledRow out;
  out.token_id = result.token_id;
  out.nonfinite_id = result.nonfinite_id;
  if (out.token_id < 0 || row.logprobs < 0) return out;
  const double log_sum = LogSum(result.max_logit, result.total);
  out.logprob = static_cast<float>(result.token_logit - log_sum);
  std::sort(best.begin(), best.end(), [](const SampledLogit& a, const SampledLogit& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  });
  for (const SampledLogit& b : best) {
    out.best.push_back({b.id, static_cast<float>(b.logit - log_sum)});
  }
  return out;
}

// Host memory of a launch's arrays.
struct Arrays {
  SampleRowParams* rows;
  TokenCount* counts;
  int32_t* held_back;
};

void Fill(const SampleRowsArgs& args, float* copies, const Arrays& to) {
  const int64_t vocab = args.logits.cols;
  Needs done;
  for (const SampleRow& row : args.rows) {
    const auto* logits = static_cast<const float*>(args.logits.Row(done.rows));
    to.rows[done.rows] = ParamsOf(row, logits, vocab, done, copies);
    std::copy(row.counts.begin(), row.counts.end(), to.counts + done.counts);
    std::copy(row.held_back.begin(), row.held_back.end(), to.held_back + done.held_back);
    done.Add(row, vocab);
  }
}

void ReadResults(const SampleRowsArgs& args, const Needs& needs, const HostBlock& results,
                 absl::Span<SampledRow> out) {
  const auto* result = reinterpret_cast<const SampleRowResult*>(results.host);
  auto* best = reinterpret_cast<SampledLogit*>(results.host + needs.result_bytes());
  for (size_t i = 0; i < out.size(); ++i) {
    const auto count = static_cast<size_t>(BestCount(args.rows[i], args.logits.cols));
    out[i] = RowOf(args.rows[i], result[i], absl::MakeSpan(best, count));
    best += count;
  }
}

// Rows that fit together.
absl::Status SampleGroup(Stream* stream, const SampleRowsArgs& args, const Needs& needs,
                         absl::Span<SampledRow> out) {
  const int64_t vocab = args.logits.cols;
  auto* copies =
      reinterpret_cast<float*>(stream->Workspace(needs.adjusted * vocab * sizeof(float)));
  HostArrays arrays(stream);
  arrays.Room<SampleRowParams>(needs.rows);
  arrays.Room<TokenCount>(needs.counts);
  arrays.Room<int32_t>(needs.held_back);
  if (!arrays.Make()) return stream->Synchronize();
  SampleParams params;
  ClearParams(&params);
  Arrays host;
  host.rows = arrays.Place<SampleRowParams>(needs.rows, &params.rows);
  host.counts = arrays.Place<TokenCount>(needs.counts, &params.counts);
  host.held_back = arrays.Place<int32_t>(needs.held_back, &params.held_back);
  Fill(args, copies, host);
  arrays.Send();
  const HostBlock results = stream->ReserveHost(needs.bytes_out());
  if (results.host == nullptr) return stream->Synchronize();
  params.results = reinterpret_cast<SampleRowResult*>(results.device);
  params.best = reinterpret_cast<SampledLogit*>(results.device + needs.result_bytes());
  params.row_count = needs.rows;
  params.vocab = static_cast<int32_t>(vocab);
  CudaSample(stream, params);
  CCOE_RETURN_IF_ERROR(stream->Fetch(results));
  ReadResults(args, needs, results, out);
  return absl::OkStatus();
}

}  // namespace

absl::Status CudaSampleRows(Stream* stream, const SampleRowsArgs& args,
                            absl::Span<SampledRow> out) {
  CheckSampleRows(args, out);
  const int64_t vocab = args.logits.cols, rows = args.logits.rows;
  if (rows == 0) return stream->Synchronize();
  for (int64_t begin = 0, end = 0; begin < rows; begin = end) {
    Needs needs;
    for (; end < rows; ++end) {
      Needs more = needs;
      more.Add(args.rows[end], vocab);
      if (needs.rows > 0 && !more.Fit(stream->host_block_bytes(), vocab)) break;
      needs = more;
    }
    const SampleRowsArgs group = {args.logits.Slice(begin, end - begin),
                                  args.rows.subspan(begin, end - begin)};
    CCOE_RETURN_IF_ERROR(SampleGroup(stream, group, needs, out.subspan(begin, end - begin)));
  }
  return absl::OkStatus();
}

}  // namespace ccoe::kernels
