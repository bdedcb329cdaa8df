// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/engine_options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/status_macros.h"

namespace ccoe::engine {
namespace {

absl::Status CheckRange(absl::string_view name, int64_t value, int64_t lowest, int64_t highest) {
  if (value >= lowest && value <= highest) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("engine options: ", name, ": expected ", lowest,
                                                 "..", highest, ", found ", value));
}

absl::Status CheckPatience(absl::string_view name, absl::Duration value) {
  if (value >= absl::ZeroDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "engine options: ", name, ": expected 0 or more, found ", absl::FormatDuration(value)));
}

}  // namespace

absl::Status Validate(const EngineOptions& options) {
  constexpr int64_t kMaxTokens = int64_t{1} << 31;
  CCOE_RETURN_IF_ERROR(CheckRange("page_tokens", options.page_tokens, 1, 4096));
  CCOE_RETURN_IF_ERROR(CheckRange("kv_tokens", options.kv_tokens, options.page_tokens, kMaxTokens));
  CCOE_RETURN_IF_ERROR(CheckRange("max_step_tokens", options.max_step_tokens, 1, 65536));
  CCOE_RETURN_IF_ERROR(CheckRange("max_prefill_chunk", options.max_prefill_chunk, 1, 65536));
  CCOE_RETURN_IF_ERROR(CheckRange("max_running", options.max_running, 1, 65536));
  CCOE_RETURN_IF_ERROR(CheckRange("max_waiting", options.max_waiting, 1, 1 << 20));
  CCOE_RETURN_IF_ERROR(CheckRange("max_steps_in_flight", options.max_steps_in_flight, 1, 64));
  if (options.wire_dtype != kernels::DType::kF32 && options.wire_dtype != kernels::DType::kBF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("engine options: wire_dtype: expected f32 or bf16, found ",
                     kernels::DTypeName(options.wire_dtype)));
  }
  CCOE_RETURN_IF_ERROR(CheckPatience("step_patience", options.step_patience));
  CCOE_RETURN_IF_ERROR(CheckPatience("replica_patience", options.replica_patience));
  CCOE_RETURN_IF_ERROR(CheckPatience("room_patience", options.room_patience));
  CCOE_RETURN_IF_ERROR(CheckPatience("hung_after", options.hung_after));
  return Annotate(Validate(options.moe_policy), "engine options");
}

}  // namespace ccoe::engine
