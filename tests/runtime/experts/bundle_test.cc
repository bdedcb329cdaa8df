// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/bundle.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/experts/extract.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::experts {
namespace {

using ::testing::AllOf;
using testing::GoldenFolder;
using ::testing::HasSubstr;
using testing::StatusIs;

// A fresh copy of the math bundle and the base it was made for.
class BundleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(spec_, model::LoadModelSpec(GoldenFolder("ccoe/backbone")));
    ExtractOptions options;
    options.base_folder = GoldenFolder("ccoe/backbone");
    options.tuned_folder = GoldenFolder("ccoe/math");
    options.layers = {4, 8};
    options.name = "math";
    options.version = 3;
    options.example_queries = {"2+2?", "x² = 4"};
    options.training = {{"steps", "100"}};
    options.output_folder = folder_;
    ASSERT_OK_AND_ASSIGN(const ExtractReport report, ExtractExpert(options));
    manifest_ = report.manifest;
  }

  absl::Status Open() { return OpenBundle(folder_, spec_, manifest_.base_fingerprint).status(); }

  // Rewrites expert.json with one key changed (or taken away: a discarded value).
  absl::Status ReadWith(const std::string& key, const nlohmann::json& value) {
    nlohmann::json object = original_.is_null()
                                ? original_ = *ReadJsonFile(folder_ + "/expert.json", 100'000)
                                : original_;
    if (value.is_discarded()) {
      object.erase(key);
    } else {
      object[key] = value;
    }
    const std::string text = object.dump();
    EXPECT_OK(WriteFileAtomically(folder_ + "/expert.json", {text}));
    return ReadManifest(folder_).status();
  }

  testing::TempFolder temporary_;
  const std::string folder_ = temporary_ / "math";
  model::ModelSpec spec_;
  BundleManifest manifest_;
  nlohmann::json original_;
};

TEST_F(BundleTest, TheManifestReadsBackAsWritten) {
  ASSERT_OK_AND_ASSIGN(const BundleManifest read, ReadManifest(folder_));
  EXPECT_EQ(read.expert, (ExpertRef{"math", 3}));
  EXPECT_EQ(read.domain, "math");
  EXPECT_EQ(read.example_queries, manifest_.example_queries);
  EXPECT_EQ(read.layers, (model::LayerRange{4, 8}));
  EXPECT_EQ(read.base_fingerprint, manifest_.base_fingerprint);
  EXPECT_EQ(read.weights_sha256, manifest_.weights_sha256);
  EXPECT_EQ(read.training, manifest_.training);
  EXPECT_FALSE(read.owns_norm);
}

TEST_F(BundleTest, TheManifestBeginsWithItsFormatAndName) {
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadFile(folder_ + "/expert.json", 100'000));
  EXPECT_EQ(text.substr(0, 37), "{\n  \"format\": 1,\n  \"name\": \"math\",\n  ");
}

TEST_F(BundleTest, MissingFieldsAreNamed) {
  for (const char* key :
       {"format", "name", "version", "layers", "base_fingerprint", "weights_sha256"}) {
    EXPECT_THAT(ReadWith(key, nlohmann::json(nlohmann::json::value_t::discarded)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("expert.json"), HasSubstr(key))));
  }
}

TEST_F(BundleTest, BadFieldsAreNamed) {
  const auto expect = [&](const std::string& key, const nlohmann::json& value,
                          const std::string& message) {
    EXPECT_THAT(ReadWith(key, value),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)))
        << key;
  };
  expect("name", "a/b", "key name");
  expect("name", 7, "key name");
  expect("version", 0, "key version");
  expect("version", -1, "key version");
  expect("layers", {{"first", 4}}, "key layers.last");
  expect("layers", {{"first", 4}, {"last", 4}}, "key layers.last");
  expect("layers", {{"first", -1}, {"last", 4}}, "key layers.first");
  expect("layers", {{"first", 0}, {"last", 1'000'000'000'000}}, "key layers.last");
  expect("base_fingerprint", "abc", "key base_fingerprint: expected 64");
  expect("weights_sha256", std::string(64, 'G'), "key weights_sha256: expected 64");
  expect("owns_head", "yes", "key owns_head");
  expect("example_queries", "one", "key example_queries");
  expect("training", {{"steps", 100}}, "key training.steps");
  expect("training", 3, "key training");
  EXPECT_THAT(ReadWith("format", 2),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("expected 1, found 2")));
  EXPECT_OK(ReadWith("a key of later days", 2));
}

TEST_F(BundleTest, AnotherBaseIsRefusedBeforeAByteIsRead) {
  std::filesystem::remove(folder_ + "/model.safetensors");
  EXPECT_THAT(OpenBundle(folder_, spec_, std::string(64, '0')),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("math@3"), HasSubstr("fingerprint"),
                             HasSubstr(manifest_.base_fingerprint))));
  spec_.layers.resize(6);
  EXPECT_THAT(Open(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("layers"), HasSubstr("[0, 6)"), HasSubstr("[4, 8)"))));
}

TEST_F(BundleTest, AFlippedByteOfTheWeightsIsDataLoss) {
  ASSERT_OK_AND_ASSIGN(std::string content, ReadFile(folder_ + "/model.safetensors", 10'000'000));
  content[content.size() / 2] ^= 1;
  ASSERT_OK(WriteFileAtomically(folder_ + "/model.safetensors", {content}));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kDataLoss,
                               AllOf(HasSubstr("model.safetensors"), HasSubstr("sha256"))));
}

TEST_F(BundleTest, MissingFilesAreNamed) {
  std::filesystem::remove(folder_ + "/model.safetensors");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("model.safetensors")));
  std::filesystem::remove(folder_ + "/expert.json");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("expert.json")));
}

TEST_F(BundleTest, TensorsThatAreMissingOrTooManyAreNamed) {
  // The bundle holds layers 4 to 7; a manifest that says less or more contradicts it.
  BundleManifest manifest = manifest_;
  manifest.layers = {5, 8};
  ASSERT_OK(WriteManifest(folder_, manifest));
  EXPECT_THAT(Open(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tensor model.layers.4.")));
  manifest.layers = {3, 8};
  ASSERT_OK(WriteManifest(folder_, manifest));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound,
                               HasSubstr("model.layers.3.input_layernorm.weight")));
  manifest = manifest_;
  manifest.owns_head = true;
  ASSERT_OK(WriteManifest(folder_, manifest));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("lm_head.weight")));
}

TEST_F(BundleTest, WritingRefusesAManifestThatCouldNotBeRead) {
  BundleManifest manifest = manifest_;
  manifest.expert.version = 0;
  EXPECT_THAT(WriteManifest(folder_, manifest),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("version")));
  manifest = manifest_;
  manifest.base_fingerprint = "";
  EXPECT_THAT(WriteManifest(folder_, manifest), StatusIs(absl::StatusCode::kInvalidArgument));
  manifest = manifest_;
  manifest.description = std::string(2'000'000, 'x');
  EXPECT_THAT(WriteManifest(folder_, manifest),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1000000")));
}

TEST(FingerprintTest, DependsOnWhatLiesBelowTheSplitAndOnTheSpec) {
  ASSERT_OK_AND_ASSIGN(model::ModelSpec spec, model::LoadModelSpec(GoldenFolder("ccoe/backbone")));
  ASSERT_OK_AND_ASSIGN(const auto backbone, model::Weights::Open(GoldenFolder("ccoe/backbone")));
  ASSERT_OK_AND_ASSIGN(const auto math,
                       model::Weights::Open(GoldenFolder("ccoe/math")));  // differs from layer 4 on
  ASSERT_OK_AND_ASSIGN(const std::string base, Fingerprint(spec, *backbone, 4));
  EXPECT_EQ(*Fingerprint(spec, *math, 4), base);
  EXPECT_NE(*Fingerprint(spec, *backbone, 3), base);
  EXPECT_NE(*Fingerprint(spec, *math, 5), *Fingerprint(spec, *backbone, 5));
  spec.rope.theta += 1.0;
  EXPECT_NE(*Fingerprint(spec, *backbone, 4), base);
}

}  // namespace
}  // namespace ccoe::experts
