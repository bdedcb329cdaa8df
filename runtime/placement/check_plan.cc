#include "runtime/placement/check_plan.h"

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/placement/expert_bytes.h"

namespace ccoe::placement {
namespace {

constexpr size_t kMaxListed = 20;

using Lines = std::vector<std::string>;

absl::Status ToStatus(Lines lines) {
  if (lines.empty()) return absl::OkStatus();
  if (lines.size() > kMaxListed) {
    const size_t more = lines.size() - kMaxListed;
    lines.resize(kMaxListed);
    lines.push_back(absl::StrCat(more, " more errors"));
  }
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

std::string Name(const WorkerPlan& worker) {
  return absl::StrCat("worker \"", absl::CEscape(worker.worker_id), "\"");
}

void AddWorkerMistakes(const Plan& plan, Lines* lines) {
  std::set<std::string> seen;
  for (const WorkerPlan& worker : plan.workers) {
    if (worker.worker_id.empty()) {
      lines->push_back("a worker has no worker_id");
    } else if (!seen.insert(worker.worker_id).second) {
      lines->push_back(absl::StrCat(Name(worker), " stands twice"));
    }
    if (worker.memory_budget_bytes < 0) {
      lines->push_back(absl::StrCat(Name(worker),
                                    ": memory_budget_bytes: expected 0 or more, found ",
                                    worker.memory_budget_bytes));
    }
  }
}

void AddBudgetMistake(const WorkerPlan& worker, const model::ModelSpec& spec, kernels::DType dtype,
                      Lines* lines) {
  if (worker.memory_budget_bytes <= 0) return;
  const ShardSize size = SizeOf(spec, worker.shard, dtype);
  const int64_t over = size.bytes() - worker.memory_budget_bytes;
  if (over <= 0) return;
  lines->push_back(absl::StrCat(Name(worker), ": over its budget: its FFN experts take ",
                                size.ToString(), ", memory_budget_bytes is ",
                                worker.memory_budget_bytes, ": ", over, " too many"));
}

}  // namespace

absl::Status CheckWorkers(const Plan& plan) {
  Lines lines;
  AddWorkerMistakes(plan, &lines);
  return ToStatus(std::move(lines));
}

absl::Status CheckPlan(const Plan& plan, const model::ModelSpec& spec, kernels::DType dtype) {
  Lines lines;
  AddWorkerMistakes(plan, &lines);
  const model::FfnShard all = model::FfnShard::All(spec);
  if (all.empty()) {
    return absl::InvalidArgumentError(
        "a placement is for a model with FFN experts; this model has none");
  }
  model::FfnShard placed = plan.with_backbone;
  if (auto within = plan.with_backbone.CheckWithin(spec); !within.ok()) {
    lines.push_back(absl::StrCat("with_backbone: ", within.message()));
  }
  for (const WorkerPlan& worker : plan.workers) {
    placed.Add(worker.shard);
    if (auto within = worker.shard.CheckWithin(spec); !within.ok()) {
      lines.push_back(absl::StrCat(Name(worker), ": ", within.message()));
    } else {
      AddBudgetMistake(worker, spec, dtype, &lines);
    }
  }
  model::FfnShard missing;
  for (const auto& [layer, experts] : all.layers()) {
    for (const int32_t expert : experts) {
      if (!placed.Contains(layer, expert)) missing.Add(layer, expert);
    }
  }
  if (!missing.empty()) {
    lines.push_back(absl::StrCat("placed nowhere: ", missing.ToString(), " (", missing.size(),
                                 " of ", all.size(), " FFN experts)"));
  }
  return ToStatus(std::move(lines));
}

}  // namespace ccoe::placement
