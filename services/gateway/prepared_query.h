// A client's request, checked and made ready for the router and a backbone worker.
#ifndef CCOE_SERVICES_GATEWAY_PREPARED_QUERY_H_
#define CCOE_SERVICES_GATEWAY_PREPARED_QUERY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ccoe/v1/backbone.pb.h"
#include "ccoe/v1/inference.pb.h"
#include "ccoe/v1/routing.pb.h"
#include "services/gateway/model_text.h"

namespace ccoe::services {

struct PreparedQuery {
  v1::RouteRequest route;
  v1::BackboneGenerateRequest backbone;  // the expert is the router's to fill in
  std::vector<std::string> stops;
};

// INVALID_ARGUMENT names the field, its range and what was found. An empty request id is replaced
// by a fresh one.
absl::StatusOr<PreparedQuery> PrepareQuery(const v1::GenerateRequest& request,
                                           const ModelText& model);

// "math", "math@2", "base" or empty; INVALID_ARGUMENT otherwise.
absl::Status CheckExpertChoice(absl::string_view expert);

// The beginning of `text` that the router looks at (64 KiB), cut at the end of a character.
std::string RoutedPart(const std::string& text);

// INVALID_ARGUMENT where `value` of the field `what` is longer than 128 bytes.
absl::Status CheckName(absl::string_view what, absl::string_view value);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_PREPARED_QUERY_H_
