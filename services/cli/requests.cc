// SPDX-License-Identifier: Apache-2.0
#include "services/cli/requests.h"

#include <memory>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ccoe::cli {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 30;

absl::Status ReadTokenIds(const nlohmann::json& ids, absl::string_view where, Request& request) {
  if (!ids.is_array())
    return absl::InvalidArgumentError(absl::StrCat(where, ": token_ids: expected a list"));
  for (const nlohmann::json& id : ids) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": token_ids: expected ids of 0 or more, found ", id.dump()));
    }
    request.token_ids.push_back(id.get<int32_t>());
  }
  return absl::OkStatus();
}

absl::StatusOr<Request> ParseRequest(absl::string_view line, absl::string_view where) {
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(line, where));
  Request request;
  if (!json.is_object() || !json.contains("id") || !json["id"].is_string() ||
      json["id"].get<std::string>().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected an object with a string \"id\""));
  }
  request.id = json["id"].get<std::string>();
  request.is_text = json.contains("text");
  if (request.is_text == json.contains("token_ids")) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": request \"", request.id, "\": expected either \"token_ids\" or \"text\""));
  }
  if (!request.is_text) {
    CCOE_RETURN_IF_ERROR(ReadTokenIds(json["token_ids"], where, request));
    return request;
  }
  if (!json["text"].is_string())
    return absl::InvalidArgumentError(absl::StrCat(where, ": text: expected a string"));
  request.text = json["text"].get<std::string>();
  return request;
}

}  // namespace

absl::StatusOr<std::vector<Request>> ParseRequests(absl::string_view content,
                                                   absl::string_view where) {
  std::vector<Request> requests;
  absl::flat_hash_set<std::string> ids;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(content, '\n')) {
    ++number;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    const std::string place = absl::StrCat(where, ":", number);
    CCOE_ASSIGN_OR_RETURN(Request request, ParseRequest(line, place));
    if (!ids.insert(request.id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(place, ": id \"", request.id, "\" stands there twice"));
    }
    requests.push_back(std::move(request));
  }
  if (requests.empty())
    return absl::InvalidArgumentError(absl::StrCat(where, ": no request in it"));
  return requests;
}

absl::StatusOr<std::vector<Request>> ReadRequests(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(const std::string content, ReadFile(path, kMaxFileBytes));
  return ParseRequests(content, path);
}

absl::Status TokenizeRequests(const std::string& model_folder, std::vector<Request>& requests) {
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
  for (Request& request : requests) {
    if (!request.is_text) continue;
    if (tokenizer == nullptr) {
      CCOE_ASSIGN_OR_RETURN(tokenizer, tokenizer::Tokenizer::Load(model_folder));
    }
    auto ids = tokenizer->Encode(request.text, /*add_special=*/true);
    if (!ids.ok()) return Annotate(ids.status(), absl::StrCat("request \"", request.id, "\""));
    request.token_ids = *std::move(ids);
  }
  return absl::OkStatus();
}

}  // namespace ccoe::cli
