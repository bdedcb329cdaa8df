// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/answer_record.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/check.h"
#include "runtime/base/file.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

RecordedAnswer Answer(int64_t index) {
  RecordedAnswer answer;
  answer.index = index;
  answer.request.id = absl::StrCat("q", index);
  answer.request.token_ids = {1, 2, 3};
  answer.expert = "math@1";
  answer.token_ids = {7, 8, 9};
  return answer;
}

// Answers 0 and 1 (a text), written and read back.
AnswerComparison Recorded() {
  const std::string path = testing::TempPath("record.jsonl");
  auto recorder = AnswerRecorder::Create(path);
  CCOE_CHECK(recorder.ok());
  (*recorder)->Add(Answer(0));
  RecordedAnswer text = Answer(1);
  text.request.token_ids.clear();
  text.request.is_text = true;
  text.request.text = "gr\xC3\xBC\xC3\x9F\"e";
  (*recorder)->Add(text);
  CCOE_CHECK((*recorder)->Finish().ok());
  auto comparison = AnswerComparison::Read(path);
  CCOE_CHECK(comparison.ok());
  return *std::move(comparison);
}

TEST(AnswerRecordTest, FindsARunEqualToItself) {
  AnswerComparison comparison = Recorded();
  RecordedAnswer text = Answer(1);
  text.request.token_ids.clear();
  text.request.is_text = true;
  text.request.text = "gr\xC3\xBC\xC3\x9F\"e";
  comparison.Add(text);
  comparison.Add(Answer(0));
  EXPECT_OK(comparison.Verdict());
  EXPECT_THAT(comparison.Summary(), HasSubstr("2 equal, 0 different, 0 not in"));
}

TEST(AnswerRecordTest, SaysWhichTokenDiffers) {
  AnswerComparison comparison = Recorded();
  RecordedAnswer answer = Answer(0);
  answer.token_ids = {7, 8, 10};
  comparison.Add(answer);
  EXPECT_THAT(comparison.Verdict(),
              testing::StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("request q0: token 2: expected 9, found 10")));
}

TEST(AnswerRecordTest, AGreedyRunIsJudgedByPromptsToo) {
  const std::string path = testing::TempPath("short");
  auto recorder = AnswerRecorder::Create(path);
  ASSERT_OK(recorder);
  (*recorder)->Add(Answer(0));
  ASSERT_OK((*recorder)->Finish());
  auto comparison = AnswerComparison::Read(path);
  ASSERT_OK(comparison);
  RecordedAnswer later = Answer(0);
  later.index = 7;
  comparison->Add(later);
  EXPECT_THAT(comparison->Summary(), HasSubstr("0 equal, 0 different, 1 not in"));
  comparison->CompareByPrompt();
  comparison->Add(later);
  EXPECT_THAT(comparison->Summary(), HasSubstr("1 equal, 0 different, 1 not in"));
  later.token_ids.push_back(1);
  comparison->Add(later);
  later.expert = "another@1";
  comparison->Add(later);
  EXPECT_THAT(comparison->Summary(), HasSubstr("1 equal, 1 different, 2 not in"));
}

TEST(AnswerRecordTest, SeesAShorterAnswer) {
  AnswerComparison comparison = Recorded();
  RecordedAnswer answer = Answer(0);
  answer.token_ids = {7, 8};
  comparison.Add(answer);
  EXPECT_THAT(comparison.Verdict(),
              testing::StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("token 2: expected 9, found the end after 2")));
}

TEST(AnswerRecordTest, SeesAnotherPromptAndAnotherExpert) {
  AnswerComparison comparison = Recorded();
  RecordedAnswer expert = Answer(0);
  expert.expert = "base";
  comparison.Add(expert);
  comparison.Add(Answer(1));
  EXPECT_THAT(comparison.Verdict(),
              testing::StatusIs(absl::StatusCode::kFailedPrecondition,
                                AllOf(HasSubstr("q0: expert: expected math@1, found base"),
                                      HasSubstr("q1: another prompt"))));
}

TEST(AnswerRecordTest, CountsAFailureOnlyWhereTheOtherRunAnswered) {
  AnswerComparison comparison = Recorded();
  comparison.Add(Answer(0));
  comparison.AddFailure(5, Answer(5).request, absl::UnavailableError("gone"));
  EXPECT_OK(comparison.Verdict());
  comparison.AddFailure(1, Answer(1).request, absl::UnavailableError("gone"));
  EXPECT_THAT(comparison.Verdict(),
              testing::StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("q1: no answer: UNAVAILABLE: gone")));
}

TEST(AnswerRecordTest, ProvesNothingWhereNothingWasCompared) {
  AnswerComparison comparison = Recorded();
  comparison.Add(Answer(9));
  EXPECT_THAT(comparison.Summary(), HasSubstr("1 not in"));
  EXPECT_THAT(comparison.Verdict(), testing::StatusIs(absl::StatusCode::kFailedPrecondition,
                                                      HasSubstr("none was compared")));
}

TEST(AnswerRecordTest, ListsTheFirstDifferencesAndCountsTheRest) {
  std::string lines;
  for (int i = 0; i < 30; ++i)
    absl::StrAppend(&lines, R"({"index": )", i,
                    R"(, "expert": "base", "prompt": "a", "token_ids": []})", "\n");
  auto comparison = AnswerComparison::Parse(lines, "r");
  ASSERT_OK(comparison);
  for (int i = 0; i < 30; ++i) comparison->Add(Answer(i));
  EXPECT_THAT(comparison->Verdict(),
              testing::StatusIs(
                  absl::StatusCode::kFailedPrecondition,
                  AllOf(HasSubstr("q19:"), Not(HasSubstr("q20:")), HasSubstr("and 10 more"))));
}

TEST(AnswerRecordTest, RefusesWhatIsNoRecord) {
  const std::string whole = R"({"index": 1, "expert": "base", "prompt": [1], "token_ids": [2]})";
  EXPECT_OK(AnswerComparison::Parse(whole + "\n\n", "r"));
  for (const std::string& line :
       {std::string("{}"), std::string("[]"), std::string("{"), whole + "\n" + whole,
        std::string(R"({"index": 1, "expert": "base", "prompt": [1], "token_ids": [-2]})"),
        std::string(R"({"index": 1, "expert": "base", "prompt": 3, "token_ids": []})")}) {
    EXPECT_THAT(AnswerComparison::Parse(line, "r"),
                testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("r:")))
        << line;
  }
  EXPECT_THAT(AnswerComparison::Read(testing::TempPath("nowhere")),
              testing::StatusIs(absl::StatusCode::kNotFound));
}

TEST(AnswerRecordTest, ARunWithoutAnswersOrAnEndLeavesTheEarlierRecord) {
  const std::string path = testing::TempPath("kept");
  const auto lines = [&] { return ReadFile(path, 1 << 20).value_or("none"); };
  auto first = AnswerRecorder::Create(path);
  ASSERT_OK(first);
  (*first)->Add(Answer(0));
  EXPECT_EQ(lines(), "none");
  EXPECT_OK((*first)->Finish());
  const std::string kept = lines();
  EXPECT_THAT(kept, HasSubstr("\"index\":0"));

  auto without_answers = AnswerRecorder::Create(path);
  ASSERT_OK(without_answers);
  EXPECT_OK((*without_answers)->Finish());
  EXPECT_EQ(lines(), kept);
  auto without_end = AnswerRecorder::Create(path);
  ASSERT_OK(without_end);
  (*without_end)->Add(Answer(1));
  without_end->reset();
  EXPECT_EQ(lines(), kept);
}

TEST(AnswerRecordTest, SaysThatAFileCannotBeWritten) {
  EXPECT_THAT(AnswerRecorder::Create(testing::TempPath("no/such/folder")),
              testing::StatusIs(absl::StatusCode::kNotFound, HasSubstr("no/such/folder")));
  auto full = AnswerRecorder::Create("/dev/full");
  ASSERT_OK(full);
  (*full)->Add(Answer(0));
  EXPECT_THAT((*full)->Finish(),
              testing::StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("/dev/full")));
}

}  // namespace

}  // namespace ccoe::cli
