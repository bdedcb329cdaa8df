// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/extract.h"

#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "runtime/base/file.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/safetensors.h"
#include "tests/testing/expect_close.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/model_run.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::experts {
namespace {

using kernels::DType;
using model::TensorView;
using ::testing::AllOf;
using testing::GoldenFolder;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempFolder;

const std::vector<float> kOnes = {1.0f, 1.0f, 1.0f, 1.0f};
const std::vector<float> kMoved = {1.0f, 3.0f, 1.0f, 1.0f};
const std::vector<uint16_t> kOnesBf16(4, 0x3f80);
const std::vector<uint16_t> kOnesF16(4, 0x3c00);

// One layer, one tensor a part.
std::map<std::string, TensorView> Parts(TensorView layer) {
  const TensorView ones{kOnes.data(), DType::kF32, {4}, 16};
  return {{"model.embed_tokens.weight", ones},
          {"model.layers.0.x", std::move(layer)},
          {"model.norm.weight", ones},
          {"lm_head.weight", ones}};
}

class DriftTest : public ::testing::Test {
 protected:
  DriftTest() { spec_.layers.resize(1); }

  absl::StatusOr<std::vector<Drift>> Measure(const std::map<std::string, TensorView>& base,
                                             const std::map<std::string, TensorView>& tuned) {
    const TempFolder base_folder, tuned_folder;
    EXPECT_OK(model::WriteSafetensors(base_folder / "model.safetensors", base));
    EXPECT_OK(model::WriteSafetensors(tuned_folder / "model.safetensors", tuned));
    return MeasureDrift(spec_, **model::Weights::Open(base_folder.path()),
                        **model::Weights::Open(tuned_folder.path()));
  }
  model::ModelSpec spec_;
  const TensorView ones_{kOnes.data(), DType::kF32, {4}, 16};
  const TensorView moved_{kMoved.data(), DType::kF32, {4}, 16};
};

TEST_F(DriftTest, IsTheFrobeniusDistanceOverTheNormOfTheBase) {
  ASSERT_OK_AND_ASSIGN(const auto drift, Measure(Parts(ones_), Parts(moved_)));
  ASSERT_EQ(drift.size(), 4u);
  EXPECT_EQ(drift[0].part, "embedding");
  EXPECT_EQ(drift[1].part, "layer 0");
  EXPECT_EQ(drift[2].part, "final norm");
  EXPECT_EQ(drift[3].part, "head");
  EXPECT_DOUBLE_EQ(drift[1].relative, 1.0);
  EXPECT_DOUBLE_EQ(drift[1].max_abs, 2.0);
  EXPECT_EQ(drift[0].relative, 0.0);
}

TEST_F(DriftTest, ATiedModelHasNoHead) {
  spec_.tied_head = true;
  ASSERT_OK_AND_ASSIGN(const auto drift, Measure(Parts(ones_), Parts(moved_)));
  EXPECT_EQ(drift.size(), 3u);
}

TEST_F(DriftTest, TheSameValuesInOtherDTypesAreNoDrift) {
  for (const TensorView& view : {TensorView{kOnesBf16.data(), DType::kBF16, {4}, 8},
                                 TensorView{kOnesF16.data(), DType::kF16, {4}, 8}}) {
    ASSERT_OK_AND_ASSIGN(const auto there, Measure(Parts(ones_), Parts(view)));
    ASSERT_OK_AND_ASSIGN(const auto back, Measure(Parts(view), Parts(ones_)));
    EXPECT_EQ(there[1].max_abs, 0.0);
    EXPECT_EQ(back[1].max_abs, 0.0);
  }
}

TEST_F(DriftTest, TensorsThatDoNotPairAreNamed) {
  auto more = Parts(ones_);
  more["model.layers.0.y"] = ones_;
  const auto missing =
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("model.layers.0.y is missing"));
  EXPECT_THAT(Measure(Parts(ones_), more), missing);
  EXPECT_THAT(Measure(more, Parts(ones_)), missing);
  EXPECT_THAT(
      Measure(Parts(ones_), Parts({kOnes.data(), DType::kF32, {2, 2}, 16})),
      StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("[4]"), HasSubstr("[2, 2]"))));
  EXPECT_THAT(Measure(Parts(ones_), Parts({kOnes.data(), DType::kI32, {4}, 16})),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("i32")));
}

ExtractOptions Options(const std::string& name, const std::string& output) {
  ExtractOptions options;
  options.base_folder = GoldenFolder("ccoe/backbone");
  options.tuned_folder = GoldenFolder("ccoe/" + name);
  options.layers = {4, 8};
  options.name = name;
  options.output_folder = output;
  return options;
}

// The golden backbone, opened once a test.
class ExtractTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(spec_, model::LoadModelSpec(GoldenFolder("ccoe/backbone")));
    ASSERT_OK_AND_ASSIGN(base_, model::Weights::Open(GoldenFolder("ccoe/backbone")));
  }

  int EntriesInFolder() const {
    int entries = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      ++entries;
    return entries;
  }

  TempFolder folder_;
  model::ModelSpec spec_;
  std::shared_ptr<const model::Weights> base_;
};

TEST_F(ExtractTest, BackboneAndBundleGiveTheTunedCheckpointsLogits) {
  for (const char* name : {"code", "math", "law", "sql", "medical"}) {
    const std::string output = folder_ / name;
    ASSERT_OK_AND_ASSIGN(const ExtractReport report, ExtractExpert(Options(name, output)));
    ASSERT_OK_AND_ASSIGN(const Bundle bundle,
                         OpenBundle(output, spec_, report.manifest.base_fingerprint));
    ASSERT_OK_AND_ASSIGN(const auto golden, testing::LoadGolden("ccoe/" + std::string(name)));
    for (const auto& prompt : golden.prompts) {
      const auto make = [&] {
        return testing::ModelRun::Create(spec_, base_, testing::ModelRunOptions{}, bundle.weights,
                                         4);
      };
      ASSERT_OK_AND_ASSIGN(auto run, make());
      ASSERT_OK_AND_ASSIGN(const auto out, run->FeedInChunks(prompt.ids, 16));
      ASSERT_OK_AND_ASSIGN(const auto expected, golden.Array("logits." + prompt.id));
      testing::ExpectClose(out.logits, expected, 1e-3, prompt.id);
      ASSERT_OK_AND_ASSIGN(auto greedy_run, make());
      ASSERT_OK_AND_ASSIGN(const auto greedy, greedy_run->Greedy(prompt.ids, 32));
      EXPECT_EQ(greedy, prompt.greedy_ids) << name << " " << prompt.id;
    }
  }
}

TEST_F(ExtractTest, TheBundleHoldsTheTunedLayersByteForByteAndNothingElse) {
  ASSERT_OK(ExtractExpert(Options("math", folder_ / "math")));
  ASSERT_OK_AND_ASSIGN(const auto bundle, model::Weights::Open(folder_ / "math"));
  ASSERT_OK_AND_ASSIGN(const auto tuned, model::Weights::Open(GoldenFolder("ccoe/math")));
  EXPECT_EQ(bundle->Names().size(), 36u);
  for (const std::string& name : bundle->Names()) {
    ASSERT_OK_AND_ASSIGN(const model::TensorView found, bundle->Raw(name));
    ASSERT_OK_AND_ASSIGN(const model::TensorView expected, tuned->Raw(name));
    EXPECT_EQ(found.dtype, kernels::DType::kBF16);
    EXPECT_EQ(found.shape, expected.shape);
    EXPECT_EQ(std::memcmp(found.data, expected.data, expected.size_bytes), 0) << name;
  }
}

TEST_F(ExtractTest, TheReportSaysWhatDriftedAndWhatTravels) {
  ASSERT_OK_AND_ASSIGN(const ExtractReport report,
                       ExtractExpert(Options("math", folder_ / "math")));
  ASSERT_EQ(report.drift.size(), 11u);
  for (size_t i = 0; i < report.drift.size(); ++i) {
    const bool tuned = i >= 5 && i < 9;
    EXPECT_EQ(report.drift[i].in_bundle, tuned) << report.drift[i].part;
    EXPECT_EQ(report.drift[i].relative > 0.0, tuned) << report.drift[i].part;
  }
  EXPECT_EQ(report.drift[5].part, "layer 4");
  EXPECT_GT(report.bundle_bytes, 200'000);
  EXPECT_EQ(report.manifest.domain, "math");
}

TEST_F(ExtractTest, NormAndHeadTravelWhenAskedFor) {
  ExtractOptions options = Options("math", folder_ / "math");
  options.own_norm = true;
  options.own_head = true;
  ASSERT_OK_AND_ASSIGN(const ExtractReport report, ExtractExpert(options));
  EXPECT_TRUE(report.manifest.owns_norm);
  EXPECT_TRUE(report.drift[9].in_bundle);
  EXPECT_TRUE(report.drift[10].in_bundle);
  ASSERT_OK_AND_ASSIGN(const Bundle bundle,
                       OpenBundle(folder_ / "math", spec_, report.manifest.base_fingerprint));
  EXPECT_TRUE(bundle.weights->Has("lm_head.weight"));
  EXPECT_TRUE(bundle.weights->Has("model.norm.weight"));
}

TEST_F(ExtractTest, AnotherShapeOfModelIsRefusedWithTheFirstDifference) {
  ExtractOptions options = Options("math", folder_ / "x");
  options.tuned_folder = GoldenFolder("llama-gqa");
  EXPECT_THAT(ExtractExpert(options),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("llama-gqa/config.json"), HasSubstr("hidden 64"),
                             HasSubstr("hidden 96"))));
  EXPECT_EQ(EntriesInFolder(), 0);
}

TEST_F(ExtractTest, BadRequestsLeaveNothingBehind) {
  const auto expect = [&](const ExtractOptions& options, absl::StatusCode code,
                          const std::string& message) {
    EXPECT_THAT(ExtractExpert(options), StatusIs(code, HasSubstr(message)));
    EXPECT_EQ(EntriesInFolder(), 0);
  };
  ExtractOptions options = Options("math", folder_ / "x");
  options.layers = {4, 9};
  expect(options, absl::StatusCode::kInvalidArgument, "LAST <= 8, found 4:9");
  options.layers = {4, 4};
  expect(options, absl::StatusCode::kInvalidArgument, "found 4:4");
  options = Options("math", folder_ / "x");
  options.name = "no/slash";
  expect(options, absl::StatusCode::kInvalidArgument, "no/slash");
  options = Options("math", folder_ / "x");
  options.version = 0;
  expect(options, absl::StatusCode::kInvalidArgument, "");
  options = Options("math", folder_ / "x");
  options.description = "\xff";
  expect(options, absl::StatusCode::kInvalidArgument, "expert.json");
  options = Options("math", folder_ / "x");
  options.tuned_folder = folder_ / "none";
  expect(options, absl::StatusCode::kNotFound, "none/config.json");
}

TEST_F(ExtractTest, AFolderThatHoldsSomethingIsNotOverwritten) {
  std::filesystem::create_directories(folder_ / "full");
  ASSERT_OK(WriteFileAtomically(folder_ / "full/file", {"mine"}));
  EXPECT_THAT(ExtractExpert(Options("math", folder_ / "full")),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_TRUE(FileExists(folder_ / "full/file"));
  std::filesystem::create_directories(folder_ / "empty");
  EXPECT_OK(ExtractExpert(Options("math", folder_ / "empty/")));
  EXPECT_OK(ExtractExpert(Options("math", folder_ / "new/deep/bundle")));
  EXPECT_TRUE(FileExists(folder_ / "new/deep/bundle/expert.json"));
}

// FOLDER: the checkpoint `base` with its layers 2 and 3 changed into each other.
void WriteTuned(const std::string& base, const std::string& folder) {
  ASSERT_OK_AND_ASSIGN(const auto spec, model::LoadModelSpec(base));
  ASSERT_OK_AND_ASSIGN(const auto weights, model::Weights::Open(base));
  const std::string third = model::LayerPrefix(spec.names, 2);
  const std::string fourth = model::LayerPrefix(spec.names, 3);
  std::map<std::string, model::TensorView> tensors;
  for (const std::string& name : weights->Names()) {
    std::string from = name;
    if (absl::StartsWith(name, third)) from = fourth + name.substr(third.size());
    if (absl::StartsWith(name, fourth)) from = third + name.substr(fourth.size());
    ASSERT_OK_AND_ASSIGN(tensors[name], weights->Raw(from));
  }
  std::filesystem::create_directory(folder);
  std::filesystem::copy_file(base + "/config.json", folder + "/config.json");
  ASSERT_OK(model::WriteSafetensors(folder + "/model.safetensors", tensors));
}

TEST_F(ExtractTest, ExpertsOverModelsOfFfnExpertsGiveTheTunedCheckpointsBits) {
  const std::vector<int32_t> ids = {1, 50, 200, 7, 31, 499, 16};
  for (const std::string name : {"mixtral-8x2", "grok1", "deepseek-v3"}) {
    const std::string base_folder = GoldenFolder(name), tuned = folder_ / (name + "-tuned");
    ASSERT_NO_FATAL_FAILURE(WriteTuned(base_folder, tuned));
    ExtractOptions options;
    options.base_folder = base_folder;
    options.tuned_folder = tuned;
    options.layers = {2, 4};
    options.name = "upper";
    options.own_norm = options.own_head = true;
    options.output_folder = folder_ / (name + "-expert");
    ASSERT_OK_AND_ASSIGN(const ExtractReport report, ExtractExpert(options));
    EXPECT_EQ(report.drift[2].relative, 0.0) << name;  // layer 1
    EXPECT_GT(report.drift[3].relative, 0.1) << name;
    ASSERT_OK_AND_ASSIGN(const auto spec, model::LoadModelSpec(base_folder));
    ASSERT_OK_AND_ASSIGN(const auto base, model::Weights::Open(base_folder));
    ASSERT_OK_AND_ASSIGN(const Bundle bundle,
                         OpenBundle(options.output_folder, spec, report.manifest.base_fingerprint));
    ASSERT_OK_AND_ASSIGN(auto run, testing::ModelRun::Create(spec, base, {}, bundle.weights, 2));
    ASSERT_OK_AND_ASSIGN(const auto found, run->Feed(ids));
    ASSERT_OK_AND_ASSIGN(auto whole, testing::ModelRun::Open(tuned, {}));
    ASSERT_OK_AND_ASSIGN(const auto expected, whole->Feed(ids));
    EXPECT_TRUE(found.logits == expected.logits) << name;
  }
}

TEST_F(ExtractTest, TheFingerprintCoversFfnExpertsBelowTheSplit) {
  const std::string base = GoldenFolder("mixtral-8x2"), tuned = folder_ / "tuned";
  ASSERT_NO_FATAL_FAILURE(WriteTuned(base, tuned));
  ASSERT_OK_AND_ASSIGN(const auto spec, model::LoadModelSpec(base));
  ASSERT_OK_AND_ASSIGN(const auto weights, model::Weights::Open(base));
  std::map<std::string, model::TensorView> tensors;
  for (const std::string& name : weights->Names()) {
    ASSERT_OK_AND_ASSIGN(tensors[name], weights->Raw(name));
  }
  const std::string changed = model::ExpertPrefix(spec.names, 1, 6) + "w3.weight";
  ASSERT_EQ(tensors.count(changed), 1u);
  tensors[changed] = tensors[model::ExpertPrefix(spec.names, 1, 5) + "w3.weight"];
  ASSERT_OK(model::WriteSafetensors(tuned + "/model.safetensors", tensors));
  ASSERT_OK_AND_ASSIGN(const auto other, model::Weights::Open(tuned));
  EXPECT_NE(*Fingerprint(spec, *weights, 2), *Fingerprint(spec, *other, 2));
  EXPECT_EQ(*Fingerprint(spec, *weights, 1), *Fingerprint(spec, *other, 1));
}

}  // namespace
}  // namespace ccoe::experts
