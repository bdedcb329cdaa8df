// The placement file: read, every mistake named with its line, and written compactly.
#ifndef CCOE_RUNTIME_PLACEMENT_PLAN_FILE_H_
#define CCOE_RUNTIME_PLACEMENT_PLAN_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/placement/plan.h"

namespace ccoe::v1 {
class PlacementPlan;
}  // namespace ccoe::v1

namespace ccoe::placement {

// Bounds on what a placement may hold.
inline constexpr int64_t kMaxPlanFileBytes = 16 << 20;
inline constexpr int kMaxPlannedWorkers = 4096;
inline constexpr int32_t kHighestLayer = 4095;
inline constexpr int32_t kHighestExpert = 65535;
inline constexpr int64_t kMaxPlacedExperts = 4 << 20;  // (layer, expert) pairs over all shards
inline constexpr size_t kMaxPlannedIdBytes = 128;

// Reads the text form of ccoe.v1.PlacementPlan. INVALID_ARGUMENT lists the mistakes, one a line, as
// "FILE:LINE:COLUMN: worker "ID": what": syntax, numbers that are none, a worker without id or
// named twice, an expert twice on one worker, a negative budget. `file` is for those messages only.
// Whether the plan suits a model is CheckPlan's business.
absl::StatusOr<Plan> ParsePlan(absl::string_view text, absl::string_view file);

// Reads and parses a file. NOT_FOUND, or as ParsePlan.
absl::StatusOr<Plan> ReadPlan(const std::string& path);

// The text form, one line a shard: layers with the same experts stand together.
std::string PlanText(const Plan& plan);

// The same over the wire. Errors as ParsePlan, without places.
v1::PlacementPlan PlanToProto(const Plan& plan);
absl::StatusOr<Plan> PlanFromProto(const v1::PlacementPlan& proto);

}  // namespace ccoe::placement

#endif  // CCOE_RUNTIME_PLACEMENT_PLAN_FILE_H_
