// SPDX-License-Identifier: Apache-2.0
#include "runtime/placement/plan.h"

#include <google/protobuf/text_format.h>

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ccoe/v1/placement.pb.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/base/text_file.h"
#include "runtime/placement/expert_demand.h"

namespace ccoe::placement {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::TextFormat;
using Numbers = std::set<int32_t>;

// Where the fields of one message stand in the file.
class Places {
 public:
  // Unknown places: the message did not come from a file, or holds nothing.
  Places() = default;
  explicit Places(const TextFormat::ParseInfoTree* tree) : tree_(tree) {}
  // The message at entry `index` (-1: not repeated) of a field of `parent`'s.
  Places(const Places& parent, const Descriptor* descriptor, int field, int index) {
    if (parent.tree_ == nullptr) return;
    start_ = parent.tree_->GetLocation(descriptor->FindFieldByNumber(field), index);
    tree_ = parent.tree_->GetTreeForNested(descriptor->FindFieldByNumber(field), index);
  }

  // Of a field; the message's start where the file does not give the field.
  TextFormat::ParseLocation Of(const Descriptor* descriptor, int field) const {
    if (tree_ == nullptr) return start_;
    const auto found = tree_->GetLocation(descriptor->FindFieldByNumber(field), -1);
    return found.line >= 0 ? found : start_;
  }
  TextFormat::ParseLocation start() const { return start_; }

 private:
  const TextFormat::ParseInfoTree* tree_ = nullptr;
  TextFormat::ParseLocation start_;  // line -1
};

class PlanReader {
 public:
  explicit PlanReader(FileMistakes* mistakes) : mistakes_(*mistakes) {}

  Plan Read(const v1::PlacementPlan& proto, const Places& places) {
    Plan plan;
    plan.model_fingerprint = proto.model_fingerprint();
    if (proto.workers_size() > kMaxPlannedWorkers) {
      Report({}, absl::StrCat("workers: expected at most ", kMaxPlannedWorkers, ", found ",
                              proto.workers_size()));
      return plan;
    }
    const Descriptor* top = v1::PlacementPlan::descriptor();
    for (int i = 0; i < proto.workers_size(); ++i) {
      const Places at(places, top, v1::PlacementPlan::kWorkersFieldNumber, i);
      plan.workers.push_back(ReadWorker(proto.workers(i), i, at));
    }
    const Places at(places, top, v1::PlacementPlan::kWithBackboneFieldNumber, -1);
    who_ = "with_backbone";
    plan.with_backbone = ReadShards(proto.with_backbone(), at);
    return plan;
  }

 private:
  void Report(const TextFormat::ParseLocation& place, absl::string_view what) {
    mistakes_.Add(place.line, place.column, what);
  }

  WorkerPlan ReadWorker(const v1::PlacedWorker& proto, int number, const Places& places) {
    const Descriptor* descriptor = v1::PlacedWorker::descriptor();
    const auto id_place = places.Of(descriptor, v1::PlacedWorker::kWorkerIdFieldNumber);
    WorkerPlan worker;
    worker.worker_id = proto.worker_id();
    worker.memory_budget_bytes = proto.memory_budget_bytes();
    who_ = absl::StrCat("worker ", number + 1);
    if (worker.worker_id.empty() || worker.worker_id.size() > kMaxPlannedIdBytes) {
      Report(id_place, absl::StrCat(who_, ": worker_id: expected 1 to ", kMaxPlannedIdBytes,
                                    " bytes, found ", worker.worker_id.size()));
    } else {
      who_ = absl::StrCat("worker \"", absl::CEscape(worker.worker_id), "\"");
      const auto [earlier, fresh] = numbers_.emplace(worker.worker_id, number);
      if (!fresh) {
        Report(id_place,
               absl::StrCat(who_, ": stands twice, also as worker ", earlier->second + 1));
      }
    }
    if (worker.memory_budget_bytes < 0) {
      Report(places.Of(descriptor, v1::PlacedWorker::kMemoryBudgetBytesFieldNumber),
             absl::StrCat(who_, ": memory_budget_bytes: expected 0 (no bound) or more, found ",
                          worker.memory_budget_bytes));
    }
    worker.shard = ReadShards(proto, places);
    return worker;
  }

  // Of a PlacedWorker or PlacedBackbone.
  template <typename Holder>
  model::FfnShard ReadShards(const Holder& holder, const Places& places) {
    model::FfnShard shard;
    for (int i = 0; i < holder.shards_size() && !over_; ++i) {
      const Places at(places, Holder::descriptor(), Holder::kShardsFieldNumber, i);
      AddShard(holder.shards(i), at, &shard);
    }
    return shard;
  }

  void AddShard(const v1::PlacedShard& proto, const Places& places, model::FfnShard* shard) {
    const Numbers layers = ReadNumbers(proto.layers(), "layers", kHighestLayer,
                                       v1::PlacedShard::kLayersFieldNumber, places);
    const Numbers experts = ReadNumbers(proto.experts(), "experts", kHighestExpert,
                                        v1::PlacedShard::kExpertsFieldNumber, places);
    placed_ += static_cast<int64_t>(layers.size() * experts.size());
    // Where one of them is wrong the other one took its time all the same. n * m + 1 >= n + m.
    read_ += static_cast<int64_t>(layers.size() + experts.size());
    over_ = placed_ > kMaxPlacedExperts || read_ > 2 * kMaxPlacedExperts;
    if (over_) {
      Report(places.start(), absl::StrCat(who_, ": expected at most ", kMaxPlacedExperts,
                                          " placed experts in all, found more"));
      return;
    }
    for (const int32_t layer : layers) {
      for (const int32_t expert : experts) {
        if (shard->Contains(layer, expert)) {
          Report(places.start(),
                 absl::StrCat(who_, ": layer ", layer, ", expert ", expert, " stands twice"));
          return;
        }
        shard->Add(layer, expert);
      }
    }
  }

  Numbers ReadNumbers(const std::string& text, absl::string_view name, int32_t highest, int field,
                      const Places& places) {
    auto numbers = model::ParseNumberSet(text, highest);
    if (numbers.ok() && !numbers->empty()) return *std::move(numbers);
    Report(places.Of(v1::PlacedShard::descriptor(), field),
           absl::StrCat(who_, ": ", name, ": ",
                        numbers.ok() ? "expected numbers such as \"0-3,7\", found none"
                                     : numbers.status().message()));
    return {};
  }

  FileMistakes& mistakes_;
  std::string who_;  // whose shards are read, for messages
  std::map<std::string, int> numbers_;
  int64_t placed_ = 0, read_ = 0;
  bool over_ = false;  // nothing more is read
};

// Layers with the same experts stand together.
template <typename Holder>
void AddShards(const model::FfnShard& shard, Holder* holder) {
  std::map<Numbers, Numbers> layers_of;  // by their experts
  for (const auto& [layer, experts] : shard.layers()) layers_of[experts].insert(layer);
  std::map<Numbers, Numbers> experts_of;  // by their layers, in the order of layers
  for (const auto& [experts, layers] : layers_of) experts_of[layers] = experts;
  for (const auto& [layers, experts] : experts_of) {
    v1::PlacedShard* line = holder->add_shards();
    line->set_layers(model::NumberSetText(layers));
    line->set_experts(model::NumberSetText(experts));
  }
}

template <typename Holder>
void AppendShards(const Holder& holder, std::string* text) {
  for (const v1::PlacedShard& shard : holder.shards()) {
    absl::StrAppend(text, "  shards { layers: \"", shard.layers(), "\" experts: \"",
                    shard.experts(), "\" }\n");
  }
}

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

absl::StatusOr<Plan> ParsePlan(absl::string_view text, absl::string_view file) {
  FileMistakes mistakes(file);
  v1::PlacementPlan proto;
  TextFormat::ParseInfoTree tree;
  if (!ParseTextFile(text, kMaxPlanFileBytes, &proto, &tree, &mistakes)) {
    return mistakes.ToStatus();
  }
  Plan plan = PlanReader(&mistakes).Read(proto, Places(&tree));
  CCOE_RETURN_IF_ERROR(mistakes.ToStatus());
  return plan;
}

absl::StatusOr<Plan> ReadPlan(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxPlanFileBytes));
  return ParsePlan(text, path);
}

v1::PlacementPlan PlanToProto(const Plan& plan) {
  v1::PlacementPlan proto;
  proto.set_model_fingerprint(plan.model_fingerprint);
  for (const WorkerPlan& worker : plan.workers) {
    v1::PlacedWorker* placed = proto.add_workers();
    placed->set_worker_id(worker.worker_id);
    placed->set_memory_budget_bytes(worker.memory_budget_bytes);
    AddShards(worker.shard, placed);
  }
  if (!plan.with_backbone.empty()) AddShards(plan.with_backbone, proto.mutable_with_backbone());
  return proto;
}

absl::StatusOr<Plan> PlanFromProto(const v1::PlacementPlan& proto) {
  FileMistakes mistakes("placement");
  Plan plan = PlanReader(&mistakes).Read(proto, Places());
  CCOE_RETURN_IF_ERROR(mistakes.ToStatus());
  return plan;
}

std::string PlanText(const Plan& plan) {
  const v1::PlacementPlan proto = PlanToProto(plan);
  std::string text;
  if (!proto.model_fingerprint().empty()) {
    absl::StrAppend(&text, "model_fingerprint: \"", absl::CEscape(proto.model_fingerprint()),
                    "\"\n");
  }
  for (const v1::PlacedWorker& worker : proto.workers()) {
    absl::StrAppend(&text, "workers {\n  worker_id: \"", absl::CEscape(worker.worker_id()), "\"\n");
    if (worker.memory_budget_bytes() != 0) {
      absl::StrAppend(&text, "  memory_budget_bytes: ", worker.memory_budget_bytes(), "\n");
    }
    AppendShards(worker, &text);
    absl::StrAppend(&text, "}\n");
  }
  if (proto.has_with_backbone()) {
    absl::StrAppend(&text, "with_backbone {\n");
    AppendShards(proto.with_backbone(), &text);
    absl::StrAppend(&text, "}\n");
  }
  return text;
}

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
