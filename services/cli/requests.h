// SPDX-License-Identifier: Apache-2.0
// Request files of the offline commands: one JSON object a line.
#ifndef CCOE_SERVICES_CLI_REQUESTS_H_
#define CCOE_SERVICES_CLI_REQUESTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::cli {

// Exactly one of token_ids and text is given.
struct Request {
  std::string id;  // unique in the file
  std::vector<int32_t> token_ids;
  std::string text;
  bool is_text = false;
};

// {"id": "...", "token_ids": [...]} or {"id": "...", "text": "..."}; blank lines are skipped.
// `where` names the file in errors, which say the line, what was expected and what was found.
absl::StatusOr<std::vector<Request>> ParseRequests(absl::string_view content,
                                                   absl::string_view where);

// ParseRequests of a file of at most 1 GiB. NOT_FOUND names it.
absl::StatusOr<std::vector<Request>> ReadRequests(const std::string& path);

// Tokenizes the text requests with the tokenizer of `model_folder` (its default special tokens
// added), which is loaded only when one of them needs it.
absl::Status TokenizeRequests(const std::string& model_folder, std::vector<Request>& requests);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_REQUESTS_H_
