// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempFolder;

int Entries(const std::string& folder) {
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) ++entries;
  return entries;
}

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
  EXPECT_EQ(Entries(folder.path()), 1);
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

TEST(FileTest, ASymbolicLinkStaysAndItsTargetIsReplaced) {
  const TempFolder folder;
  ASSERT_TRUE(fs::create_directory(folder / "deep"));
  ASSERT_OK(WriteFileAtomically(folder / "deep/target", {"old"}));
  fs::create_symlink("second", folder / "first");  // relative to the folder of each link
  fs::create_symlink("deep/target", folder / "second");
  ASSERT_OK(WriteFileAtomically(folder / "first", {"new"}));
  EXPECT_TRUE(fs::is_symlink(folder / "first"));
  EXPECT_TRUE(fs::is_symlink(folder / "second"));
  ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(folder / "deep/target", 100));
  EXPECT_EQ(content, "new");
  fs::create_symlink(folder / "deep/later", folder / "to_nothing");
  ASSERT_OK(WriteFileAtomically(folder / "to_nothing", {"made"}));
  EXPECT_TRUE(fs::is_symlink(folder / "to_nothing"));
  ASSERT_OK_AND_ASSIGN(const std::string made, ReadFile(folder / "deep/later", 100));
  EXPECT_EQ(made, "made");
  EXPECT_EQ(Entries(folder / "deep"), 2);
  fs::create_symlink("round", folder / "round");
  EXPECT_THAT(WriteFileAtomically(folder / "round", {"x"}).message(), HasSubstr("symbolic links"));
}

TEST(FileTest, AFifoIsWrittenThroughAndStays) {
  const TempFolder folder;
  const std::string path = folder / "fifo";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::string read;
  std::thread reader([&] {
    std::ifstream file(path, std::ios::binary);
    read.assign(std::istreambuf_iterator<char>(file), {});
  });
  const std::string large(1 << 20, 'x');  // more than a pipe holds
  const absl::Status written = WriteFileAtomically(path, {"one ", large});
  reader.join();
  EXPECT_OK(written);
  EXPECT_TRUE(read == "one " + large);
  EXPECT_TRUE(fs::is_fifo(path));
  EXPECT_EQ(Entries(folder.path()), 1);
}

TEST(FileTest, AFullDeviceIsAnErrorAndStays) {
  ASSERT_TRUE(fs::is_character_file("/dev/full"));
  EXPECT_THAT(WriteFileAtomically("/dev/full", {"x"}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("/dev/full"), HasSubstr("No space left"))));
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
  EXPECT_OK(WriteFileAtomically("/dev/null", {"x"}));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  const TempFolder folder;
  fs::create_symlink("/dev/full", folder / "link");
  EXPECT_THAT(WriteFileAtomically(folder / "link", {"x"}),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
}

TEST(FileTest, APipeWhoseReaderIsGoneIsAnError) {
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ::close(ends[0]);
  EXPECT_THAT(WriteFileAtomically(absl::StrCat("/dev/fd/", ends[1]), {"x"}).message(),
              HasSubstr("Broken pipe"));
  ::close(ends[1]);
  std::signal(SIGPIPE, before);
}

TEST(FileTest, WhatIsOpenIsWrittenThroughItsNameInProc) {
  const TempFolder folder;
  const int fd = ::open((folder / "open").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_OK(WriteFileAtomically(absl::StrCat("/dev/fd/", fd), {"through"}));
  char found[8] = {};
  EXPECT_EQ(::pread(fd, found, sizeof(found), 0), 7);
  EXPECT_STREQ(found, "through");
  ::close(fd);
}

TEST(FileTest, TheFileThatIsReplacedHandsOnItsPermissions) {
  const TempFolder folder;
  ASSERT_OK(WriteFileAtomically(folder / "a", {"old"}));
  ASSERT_EQ(::chmod((folder / "a").c_str(), 0640), 0);
  ASSERT_OK(WriteFileAtomically(folder / "a", {"new"}));
  struct stat info;
  ASSERT_EQ(::stat((folder / "a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST(FileTest, RefusesToWriteAFolder) {
  const TempFolder folder;
  EXPECT_THAT(WriteFileAtomically(folder.path(), {"x"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found a folder")));
}

TEST(FileTest, WritersAtOnceLeaveOneWholeContentAndNothingElse) {
  const TempFolder folder;
  std::vector<std::thread> writers;
  for (char letter = 'a'; letter < 'e'; ++letter) {
    writers.emplace_back([&folder, letter] {
      for (int i = 0; i < 20; ++i) {
        EXPECT_OK(WriteFileAtomically(folder / "f", {std::string(10'000, letter)}));
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(folder / "f", 100'000));
  EXPECT_EQ(content, std::string(10'000, content[0]));
  EXPECT_EQ(Entries(folder.path()), 1);
}

TEST(FileTest, AnIdentityTellsAReplacedFile) {
  const TempFolder folder;
  ASSERT_OK(WriteFileAtomically(folder / "a", {"same"}));
  ASSERT_OK_AND_ASSIGN(const FileIdentity first, FileIdentity::OfPath(folder / "a"));
  ASSERT_OK_AND_ASSIGN(const FileIdentity again, FileIdentity::OfPath(folder / "a"));
  EXPECT_TRUE(first == again);
  EXPECT_EQ(first.size_bytes, 4);
  ASSERT_OK(WriteFileAtomically(folder / "b", {"SAME"}));  // both exist: another inode for sure
  ASSERT_EQ(::rename((folder / "b").c_str(), (folder / "a").c_str()), 0);
  ASSERT_OK_AND_ASSIGN(const FileIdentity replaced, FileIdentity::OfPath(folder / "a"));
  EXPECT_FALSE(first == replaced);
  EXPECT_THAT(FileIdentity::OfPath(folder / "none"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/none")));
}

}  // namespace
}  // namespace ccoe
