// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/answer_record.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/sha256.h"
#include "runtime/base/status_macros.h"

namespace ccoe::cli {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{4} << 30;
constexpr size_t kMaxListed = 20;

nlohmann::json Prompt(const Request& request) {
  if (request.is_text) return request.text;
  return request.token_ids;
}

// Of the JSON, so that a text is no list of ids.
std::string Digest(const nlohmann::json& prompt) {
  Sha256 digest;
  digest.Update(prompt.dump());
  return digest.Hex();
}

bool IsIds(const nlohmann::json& json) {
  return json.is_array() && std::all_of(json.begin(), json.end(), [](const nlohmann::json& id) {
           return id.is_number_integer() && id.get<int64_t>() >= 0 &&
                  id.get<int64_t>() <= INT32_MAX;
         });
}

std::string FirstDifference(const std::vector<int32_t>& expected,
                            const std::vector<int32_t>& found) {
  const auto [one, other] =
      std::mismatch(expected.begin(), expected.end(), found.begin(), found.end());
  const auto text = [](const std::vector<int32_t>& ids, auto at) {
    return at == ids.end() ? absl::StrCat("the end after ", ids.size()) : absl::StrCat(*at);
  };
  return absl::StrCat("token ", one - expected.begin(), ": expected ", text(expected, one),
                      ", found ", text(found, other));
}

}  // namespace

absl::StatusOr<std::unique_ptr<AnswerRecorder>> AnswerRecorder::Create(const std::string& path) {
  auto recorder = std::unique_ptr<AnswerRecorder>(new AnswerRecorder(path));
  std::error_code none;
  // A symbolic link stays; its target is replaced.
  if (const auto target = std::filesystem::canonical(path, none); !none) {
    recorder->path_ = target.string();
  }
  if (!std::filesystem::exists(recorder->path_, none) ||
      std::filesystem::is_regular_file(recorder->path_, none)) {
    recorder->partial_ = recorder->path_ + ".partial";
  }
  errno = 0;
  recorder->file_.open(recorder->partial_.empty() ? recorder->path_ : recorder->partial_,
                       std::ios::binary);
  recorder->Check();
  if (!recorder->error_.ok()) return recorder->error_;
  return recorder;
}

void AnswerRecorder::Check() {
  if (file_ || !error_.ok()) return;
  error_ =
      absl::ErrnoToStatus(errno == 0 ? EIO : errno, absl::StrCat(path_, ": cannot be written"));
}

void AnswerRecorder::Add(const RecordedAnswer& answer) {
  const nlohmann::json json = {{"index", answer.index},
                               {"id", answer.request.id},
                               {"expert", answer.expert},
                               {"prompt", Prompt(answer.request)},
                               {"token_ids", answer.token_ids}};
  any_ = true;
  errno = 0;
  file_ << json.dump() << "\n";
  Check();
}

absl::Status AnswerRecorder::Finish() {
  errno = 0;
  file_.close();
  Check();
  if (partial_.empty() || !error_.ok()) return error_;
  std::error_code error;
  if (any_) {
    std::filesystem::rename(partial_, path_, error);
  } else {
    std::filesystem::remove(partial_, error);
  }
  if (error) {
    error_ = absl::ErrnoToStatus(error.value(), absl::StrCat(path_, ": cannot be replaced"));
  }
  return error_;
}

absl::StatusOr<AnswerComparison> AnswerComparison::Read(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(const std::string content, ReadFile(path, kMaxFileBytes));
  return Parse(content, path);
}

absl::StatusOr<AnswerComparison> AnswerComparison::Parse(absl::string_view content,
                                                         absl::string_view where) {
  AnswerComparison comparison(where);
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(content, '\n')) {
    ++number;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    CCOE_RETURN_IF_ERROR(comparison.AddLine(line, absl::StrCat(where, ":", number)));
  }
  return comparison;
}

absl::Status AnswerComparison::AddLine(absl::string_view line, absl::string_view place) {
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(line, place));
  const auto has = [&json](const char* key) { return json.is_object() && json.contains(key); };
  if (!has("index") || !json["index"].is_number_integer() || !has("expert") ||
      !json["expert"].is_string() || !has("prompt") ||
      !(json["prompt"].is_string() || IsIds(json["prompt"])) || !has("token_ids") ||
      !IsIds(json["token_ids"])) {
    return absl::InvalidArgumentError(absl::StrCat(
        place, ": expected an object with \"index\", \"expert\", \"prompt\" and \"token_ids\""));
  }
  const auto index = json["index"].get<int64_t>();
  Answer answer{Digest(json["prompt"]), json["expert"].get<std::string>(),
                json["token_ids"].get<std::vector<int32_t>>()};
  of_prompt_.try_emplace({answer.prompt_digest, answer.expert}, index);
  if (!recorded_.emplace(index, std::move(answer)).second) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": index ", index, " stands there twice"));
  }
  return absl::OkStatus();
}

void AnswerComparison::Differ(const Request& request, absl::string_view how) {
  ++different_;
  if (differences_.size() < kMaxListed)
    differences_.push_back(absl::StrCat("request ", request.id, ": ", how));
}

void AnswerComparison::Add(const RecordedAnswer& answer) {
  auto found = recorded_.find(answer.index);
  if (found == recorded_.end() && by_prompt_) {
    const auto same = of_prompt_.find({Digest(Prompt(answer.request)), answer.expert});
    if (same != of_prompt_.end()) found = recorded_.find(same->second);
  }
  if (found == recorded_.end()) {
    ++not_recorded_;
    return;
  }
  const Answer& expected = found->second;
  if (Digest(Prompt(answer.request)) != expected.prompt_digest) {
    Differ(answer.request, "another prompt");
  } else if (answer.expert != expected.expert) {
    Differ(answer.request,
           absl::StrCat("expert: expected ", expected.expert, ", found ", answer.expert));
  } else if (answer.token_ids != expected.token_ids) {
    Differ(answer.request, FirstDifference(expected.token_ids, answer.token_ids));
  } else {
    ++equal_;
  }
}

void AnswerComparison::AddFailure(int64_t index, const Request& request,
                                  const absl::Status& status) {
  if (recorded_.contains(index))
    Differ(request, absl::StrCat("no answer: ",
                                 status.ToString(absl::StatusToStringMode::kWithNoExtraData)));
}

std::string AnswerComparison::Summary() const {
  return absl::StrCat(equal_, " equal, ", different_, " different, ", not_recorded_, " not in ",
                      where_);
}

absl::Status AnswerComparison::Verdict() const {
  if (different_ > 0) {
    std::string list = absl::StrJoin(differences_, "\n  ");
    const auto listed = static_cast<int64_t>(differences_.size());
    if (different_ > listed) absl::StrAppend(&list, "\n  and ", different_ - listed, " more");
    return absl::FailedPreconditionError(absl::StrCat(Summary(), "\n  ", list));
  }
  if (equal_ == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(where_, ": no answer of this run is in it, so none was compared"));
  }
  return absl::OkStatus();
}

absl::StatusOr<AnswerFiles> AnswerFiles::Open(const std::string& record, const std::string& compare,
                                              bool by_prompt) {
  AnswerFiles files;
  if (!compare.empty()) {
    CCOE_ASSIGN_OR_RETURN(files.comparison, AnswerComparison::Read(compare));
    if (by_prompt) files.comparison->CompareByPrompt();
  }
  if (!record.empty()) {
    CCOE_ASSIGN_OR_RETURN(files.recorder, AnswerRecorder::Create(record));
  }
  return files;
}

void AnswerFiles::Add(const ServedRequest& served, const LoadPrompts& prompts) {
  if (recorder == nullptr && !comparison.has_value()) return;
  // Made once more rather than kept: a run may be longer than memory.
  const RecordedAnswer answer{served.index, prompts(served.index).request, served.expert,
                              served.token_ids};
  if (served.status.ok()) {
    if (recorder != nullptr) recorder->Add(answer);
    if (comparison.has_value()) comparison->Add(answer);
  } else if (comparison.has_value() && !served.cancelled &&
             !absl::IsResourceExhausted(served.status)) {
    comparison->AddFailure(served.index, answer.request, served.status);
  }
}

}  // namespace ccoe::cli
