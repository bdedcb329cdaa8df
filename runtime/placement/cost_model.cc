// SPDX-License-Identifier: Apache-2.0
#include "runtime/placement/cost_model.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/check.h"

namespace ccoe::placement {
namespace {

const model::MoeSpec& FirstMoe(const model::ModelSpec& spec) {
  const auto layer = std::find_if(spec.layers.begin(), spec.layers.end(),
                                  [](const model::LayerSpec& l) { return l.ffn.is_moe(); });
  CCOE_CHECK(layer != spec.layers.end());
  return layer->ffn.moe;
}

// What `rows` rows with top_k experts each touch, if their choices were independent.
struct Touched {
  double experts = 0;         // that some row chose
  double rows_an_expert = 0;  // on average
  double sends = 0;           // (row, worker) pairs
  double pairs = 0;           // (row, expert) pairs
};

Touched Expect(const model::MoeSpec& moe, const CostQuestion& question) {
  const auto experts = static_cast<double>(moe.experts);
  const auto top_k = static_cast<double>(moe.gate.top_k);
  const auto rows = static_cast<double>(question.rows);
  Touched touched;
  touched.pairs = rows * top_k;
  touched.experts = experts * (1 - std::pow(1 - top_k / experts, rows));
  touched.rows_an_expert = touched.pairs / touched.experts;
  const double missed = std::pow(1 - 1.0 / question.workers, top_k);
  touched.sends = rows * question.workers * (1 - missed);
  return touched;
}

double ExpertSeconds(const Costs& costs, double rows) {
  const double a_row = std::max(0.0, costs.expert_seconds_128 - costs.expert_seconds_1) / 127;
  return costs.expert_seconds_1 + std::max(0.0, rows - 1) * a_row;
}

std::string Milliseconds(double seconds) { return absl::StrFormat("%.3g ms", seconds * 1e3); }
std::string Gigabytes(int64_t bytes) {
  return absl::StrFormat("%.3g GB", static_cast<double>(bytes) / 1e9);
}

}  // namespace

CostAnswer CompareCosts(const model::ModelSpec& spec, const Costs& costs,
                        const CostQuestion& question) {
  const model::MoeSpec& moe = FirstMoe(spec);
  const Touched touched = Expect(moe, question);
  const double computing = touched.experts * ExpertSeconds(costs, touched.rows_an_expert);
  // The busiest worker has at least one expert to run.
  const double at_once =
      question.shared_machine
          ? 1.0
          : std::clamp(touched.experts, 1.0, static_cast<double>(question.workers));
  const double bytes = (touched.sends + touched.pairs) * static_cast<double>(spec.hidden_size) *
                       static_cast<double>(kernels::DTypeBytes(question.wire_dtype));
  const double travelling = bytes / costs.bytes_per_second;

  CostAnswer answer;
  answer.here_seconds = computing;
  answer.workers_seconds = computing / at_once + costs.round_trip_seconds + travelling;
  answer.with_backbone = answer.here_seconds <= answer.workers_seconds;
  const std::string times = absl::StrCat(
      "a layer of a step of ", question.rows, " rows takes ", Milliseconds(answer.here_seconds),
      " with the backbone (", absl::StrFormat("%.3g", touched.experts), " experts x ",
      absl::StrFormat("%.3g", touched.rows_an_expert), " rows), ",
      Milliseconds(answer.workers_seconds), " on ", question.workers,
      question.workers == 1 ? " worker" : " workers",
      question.shared_machine ? " of this machine, which share its cores (" : " (",
      Milliseconds(computing / at_once), " computing, ", Milliseconds(costs.round_trip_seconds),
      " round trip, ", Milliseconds(travelling), " for ", absl::StrFormat("%.3g", bytes / 1e6),
      " MB)");
  if (question.memory_bytes > 0 && question.expert_bytes > question.memory_bytes) {
    answer.with_backbone = false;
    answer.reason = absl::StrCat("on workers: the experts take ", Gigabytes(question.expert_bytes),
                                 ", the backbone's machine has ", Gigabytes(question.memory_bytes),
                                 " for them; ", times);
  } else {
    answer.reason =
        absl::StrCat(answer.with_backbone ? "with the backbone: " : "on workers: ", times);
  }
  return answer;
}

}  // namespace ccoe::placement
