#include "runtime/base/file.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempFolder;

TEST(FileTest, ReadsBackWhatWasWrittenInPieces) {
  const TempFolder folder;
  const std::string path = folder / "a";
  EXPECT_FALSE(FileExists(path));
  ASSERT_OK(WriteFileAtomically(path, {"one ", "", "two"}));
  EXPECT_TRUE(FileExists(path));
  ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(path, 7));
  EXPECT_EQ(content, "one two");
}

TEST(FileTest, WritingReplacesAndLeavesNothingBeside) {
  const TempFolder folder;
  ASSERT_OK(WriteFileAtomically(folder / "a", {"long content"}));
  ASSERT_OK(WriteFileAtomically(folder / "a", {"new"}));
  ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(folder / "a", 100));
  EXPECT_EQ(content, "new");
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path()))
    ++entries;
  EXPECT_EQ(entries, 1);
}

TEST(FileTest, ErrorsNameThePath) {
  const TempFolder folder;
  EXPECT_THAT(ReadFile(folder / "none", 10),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/none")));
  EXPECT_THAT(WriteFileAtomically(folder / "no/such/folder", {"x"}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no/such/folder")));
  ASSERT_OK(WriteFileAtomically(folder / "big", {"12345678901"}));
  EXPECT_THAT(ReadFile(folder / "big", 10),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("at most 10"), HasSubstr("found 11"))));
}

TEST(FileTest, RefusesWhatIsNoRegularFile) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(ReadFile(folder / "pipe", 10), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ReadFile(folder.path(), 10), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace ccoe
