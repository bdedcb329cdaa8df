// SPDX-License-Identifier: Apache-2.0
// Answers written down, a JSON line each, so that another run can be held against them bit for bit:
// a run with faults against an undisturbed one.
//
//   {"index": 7, "id": "7", "expert": "math@1", "prompt": [1, 2], "token_ids": [3, 4]}
#ifndef CCOE_SERVICES_CLI_BENCH_ANSWER_RECORD_H_
#define CCOE_SERVICES_CLI_BENCH_ANSWER_RECORD_H_

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "services/cli/bench/load_schedule.h"
#include "services/cli/bench/serve_metrics.h"
#include "services/cli/requests.h"

namespace ccoe::cli {

struct RecordedAnswer {
  int64_t index = 0;  // of the request in its run
  Request request;
  std::string expert;  // that answered
  std::vector<int32_t> token_ids;
};

// Writes lines as answers come, to PATH.partial, which takes the place of what was at the path when
// the run ends with answers; until then, and where there are none, that stays. What is no regular
// file is written to at once. Not thread-safe.
class AnswerRecorder {
 public:
  // An error names the path and the system's reason.
  static absl::StatusOr<std::unique_ptr<AnswerRecorder>> Create(const std::string& path);

  void Add(const RecordedAnswer& answer);
  // The first error of writing. Call last.
  absl::Status Finish();

 private:
  explicit AnswerRecorder(std::string path) : path_(std::move(path)) {}
  // Keeps the reason where the last step on the file was the first that failed.
  void Check();

  std::string path_;
  std::string partial_;  // empty: it is written to path_
  bool any_ = false;
  std::ofstream file_;
  absl::Status error_;
};

// Holds a run against a recorded one. Not thread-safe.
class AnswerComparison {
 public:
  // INVALID_ARGUMENT names the file, the line and what was expected there.
  static absl::StatusOr<AnswerComparison> Read(const std::string& path);
  static absl::StatusOr<AnswerComparison> Parse(absl::string_view content, absl::string_view where);

  // The answers of both runs depend on prompt and expert alone (temperature 0): a request whose
  // index is not recorded is compared with a recorded one of the same prompt and expert. So a short
  // record judges a long run that goes over its prompts again and again.
  void CompareByPrompt() { by_prompt_ = true; }

  // An answer of this run: prompt, expert and token ids are compared with the recorded ones.
  void Add(const RecordedAnswer& answer);
  // A request that this run failed to answer: a difference where the recorded run answered it.
  void AddFailure(int64_t index, const Request& request, const absl::Status& status);

  // "250 equal, 3 not in FILE".
  std::string Summary() const;
  // FAILED_PRECONDITION lists what differs (the first of it, and how many more), or says that
  // nothing could be compared.
  absl::Status Verdict() const;

 private:
  struct Answer {
    std::string prompt_digest;
    std::string expert;
    std::vector<int32_t> token_ids;
  };

  explicit AnswerComparison(absl::string_view where) : where_(where) {}
  absl::Status AddLine(absl::string_view line, absl::string_view place);
  void Differ(const Request& request, absl::string_view how);

  std::string where_;
  absl::flat_hash_map<int64_t, Answer> recorded_;  // by index
  // The first index of a prompt's digest and an expert.
  absl::flat_hash_map<std::pair<std::string, std::string>, int64_t> of_prompt_;
  bool by_prompt_ = false;
  int64_t equal_ = 0;
  int64_t not_recorded_ = 0;
  int64_t different_ = 0;
  std::vector<std::string> differences_;  // the first few
};

// The files of --record and --compare, either of which may be left out. Not thread-safe.
struct AnswerFiles {
  std::unique_ptr<AnswerRecorder> recorder;  // may be null
  std::optional<AnswerComparison> comparison;

  // Paths; empty: none. `by_prompt`: see CompareByPrompt.
  static absl::StatusOr<AnswerFiles> Open(const std::string& record, const std::string& compare,
                                          bool by_prompt);

  void Add(const ServedRequest& served, const LoadPrompts& prompts);
};

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_ANSWER_RECORD_H_
