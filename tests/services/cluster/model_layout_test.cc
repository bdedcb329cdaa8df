#include "services/cluster/model_layout.h"

#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FindModelTest : public ::testing::Test {
 protected:
  void Make(const std::string& file) {
    const std::filesystem::path path(folder_ / file);
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << "{}";
  }

  testing::TempFolder folder_;
};

TEST_F(FindModelTest, ACheckpointIsItsOwnBase) {
  Make("config.json");
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout, FindModel(folder_.path(), "", ""));
  EXPECT_EQ(layout.base_folder, folder_.path());
  EXPECT_TRUE(layout.bundle_folders.empty());
  EXPECT_EQ(layout.rules_file, "");
}

TEST_F(FindModelTest, AFolderWithABaseBringsItsExpertsAndRules) {
  Make("base/config.json");
  Make("experts/sql/expert.json");
  Make("experts/law/expert.json");
  Make("experts/notes/readme.txt");
  Make("routing.textproto");
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout, FindModel(folder_.path(), "", ""));
  EXPECT_EQ(layout.base_folder, folder_ / "base");
  EXPECT_THAT(layout.bundle_folders, ElementsAre(folder_ / "experts/law", folder_ / "experts/sql"));
  EXPECT_EQ(layout.rules_file, folder_ / "routing.textproto");
}

TEST_F(FindModelTest, WhatIsGivenTakesThePlaceOfWhatIsThere) {
  Make("base/config.json");
  Make("experts/sql/expert.json");
  Make("other/math/expert.json");
  Make("routing.textproto");
  Make("mine.textproto");
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout,
                       FindModel(folder_.path(), folder_ / "other", folder_ / "mine.textproto"));
  EXPECT_THAT(layout.bundle_folders, ElementsAre(folder_ / "other/math"));
  EXPECT_EQ(layout.rules_file, folder_ / "mine.textproto");
  // A single bundle is a folder of one.
  ASSERT_OK_AND_ASSIGN(const ModelLayout one,
                       FindModel(folder_.path(), folder_ / "other/math", ""));
  EXPECT_THAT(one.bundle_folders, ElementsAre(folder_ / "other/math"));
}

TEST_F(FindModelTest, NamesWhatIsMissing) {
  EXPECT_THAT(FindModel(folder_ / "none", "", "").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(FindModel(folder_.path(), "", "").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("config.json")));
  Make("config.json");
  EXPECT_THAT(FindModel(folder_.path(), folder_ / "none", "").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(FindModel(folder_.path(), folder_.path(), "").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("found none")));
  EXPECT_THAT(FindModel(folder_.path(), "", folder_ / "no.textproto").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no.textproto")));
}

}  // namespace
}  // namespace ccoe::services
