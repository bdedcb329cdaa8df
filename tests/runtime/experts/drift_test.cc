#include "runtime/experts/drift.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "runtime/model/safetensors.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::experts {
namespace {

using kernels::DType;
using model::TensorView;
using ::testing::AllOf;
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

}  // namespace
}  // namespace ccoe::experts
