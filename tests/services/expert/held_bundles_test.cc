#include "services/expert/held_bundles.h"

#include "gtest/gtest.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(FindBundlesTest, FindsABundleOrTheBundlesBelow) {
  testing::TempFolder folder;
  EXPECT_THAT(FindBundles(folder.path()).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("found none")));
  ASSERT_OK(testing::ExtractGoldenBundles(folder.path(), {"sql", "code"}));
  ASSERT_OK_AND_ASSIGN(const auto all, FindBundles(folder.path()));
  EXPECT_THAT(all, ElementsAre(folder / "code", folder / "sql"));
  ASSERT_OK_AND_ASSIGN(const auto one, FindBundles(folder / "sql"));
  EXPECT_THAT(one, ElementsAre(folder / "sql"));
  EXPECT_THAT(FindBundles(folder / "none").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

TEST(HeldExpertTest, CarriesWhatTheManifestSays) {
  experts::BundleManifest manifest;
  manifest.expert = {"math", 3};
  manifest.domain = "sums";
  manifest.description = "adds";
  manifest.example_queries = {"1 + 1"};
  manifest.layers = {6, 8};
  manifest.base_fingerprint = "abc";
  v1::HeldExpert held = HeldExpertOf(manifest, 99);
  EXPECT_EQ(held.info().expert().name(), "math");
  EXPECT_EQ(held.info().expert().version(), 3);
  EXPECT_EQ(held.info().domain(), "sums");
  EXPECT_EQ(held.info().description(), "adds");
  EXPECT_EQ(held.info().example_queries(0), "1 + 1");
  EXPECT_EQ(held.info().first_layer(), 6);
  EXPECT_EQ(held.info().last_layer(), 8);
  EXPECT_EQ(held.info().weight_bytes(), 99);
  EXPECT_FALSE(held.info().owns_head());
  EXPECT_EQ(held.base_fingerprint(), "abc");
  manifest.owns_norm = true;
  EXPECT_TRUE(HeldExpertOf(manifest, 99).info().owns_head());
}

}  // namespace
}  // namespace ccoe::services
