// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/sha256.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe {
namespace {

// FIPS 180-4's own example.
constexpr char kAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(Sha256Test, GivesThePublishedDigestHoweverTheInputIsCut) {
  Sha256 digest;
  digest.Update("a");
  digest.Update("bc");
  EXPECT_EQ(digest.Hex(), kAbc);
}

TEST(Sha256Test, ReadsFilesAndNamesTheMissingOne) {
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/abc";
  std::ofstream(path) << "abc";
  ASSERT_OK_AND_ASSIGN(const std::string hex, Sha256OfFile(path));
  EXPECT_EQ(hex, kAbc);
  EXPECT_THAT(
      Sha256OfFile(path + ".none"),
      ccoe::testing::StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr("abc.none")));
}

}  // namespace
}  // namespace ccoe
