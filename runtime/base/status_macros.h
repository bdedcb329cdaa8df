// SPDX-License-Identifier: Apache-2.0
// CCOE_RETURN_IF_ERROR and CCOE_ASSIGN_OR_RETURN: the one way Status travels up our own calls.
#ifndef CCOE_RUNTIME_BASE_STATUS_MACROS_H_
#define CCOE_RUNTIME_BASE_STATUS_MACROS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

// Evaluates `expr` (an absl::Status) once and returns it from the enclosing function if it is an
// error.
#define CCOE_RETURN_IF_ERROR(expr)                                                   \
  do {                                                                               \
    if (absl::Status ccoe_status_ = (expr); !ccoe_status_.ok()) return ccoe_status_; \
  } while (false)

// As CCOE_RETURN_IF_ERROR, with Annotate. `context` is evaluated for an error alone.
#define CCOE_RETURN_IF_ERROR_IN(expr, context)                  \
  do {                                                          \
    if (absl::Status ccoe_status_ = (expr); !ccoe_status_.ok()) \
      return ::ccoe::Annotate(ccoe_status_, (context));         \
  } while (false)

#define CCOE_STATUS_CONCAT_INNER_(a, b) a##b
#define CCOE_STATUS_CONCAT_(a, b) CCOE_STATUS_CONCAT_INNER_(a, b)

// CCOE_ASSIGN_OR_RETURN(auto x, F()): assigns the value of a StatusOr or returns its status.
#define CCOE_ASSIGN_OR_RETURN(lhs, expr) \
  CCOE_ASSIGN_OR_RETURN_IMPL_(CCOE_STATUS_CONCAT_(ccoe_statusor_, __LINE__), lhs, expr)
#define CCOE_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expr)   \
  auto statusor = (expr);                                  \
  if (!statusor.ok()) return std::move(statusor).status(); \
  lhs = *std::move(statusor)

namespace ccoe {

// `status` with "context: " put before its message; OK stays OK, payloads stay. Use it where a
// caller knows what a callee cannot (the file, the tensor, the worker).
inline absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    annotated.SetPayload(url, payload);
  });
  return annotated;
}

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_STATUS_MACROS_H_
