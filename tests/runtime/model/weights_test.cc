// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/weights.h"

#include <bit>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/model_run.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using kernels::DType;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempFolder;

template <typename T>
std::vector<T> Read(testing::TaggedDevice& device, kernels::ConstMatrix view) {
  std::vector<T> values(static_cast<size_t>(view.rows * view.cols));
  EXPECT_OK(device.CopyToHost(view.data, values.data(), values.size() * sizeof(T)));
  return values;
}

TEST(DeviceTensorsTest, ATensorIsUploadedOnce) {
  testing::TaggedDevice device;
  DeviceTensors tensors({&device});
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const auto host = kernels::F32Matrix(values.data(), 2, 3);
  ASSERT_OK_AND_ASSIGN(const auto first, tensors.Upload("m", host, true));
  ASSERT_OK_AND_ASSIGN(const auto second, tensors.Upload("m", host, true));
  EXPECT_EQ(first.data, second.data);
  EXPECT_EQ(device.uploaded_bytes(), 24);
  EXPECT_EQ(tensors.size_bytes(), 24);
  EXPECT_EQ(Read<float>(device, first), values);
}

TEST(DeviceTensorsTest, MatricesAreConvertedAndVectorsAreNot) {
  testing::TaggedDevice device;
  DeviceTensors tensors({&device, DType::kBF16});
  const float values[] = {1.0f, 1.00390625f, -2.5f, 3.0e38f};
  const auto host = kernels::F32Matrix(values, 1, 4);
  ASSERT_OK_AND_ASSIGN(const auto matrix, tensors.Upload("m", host, true));
  ASSERT_OK_AND_ASSIGN(const auto vector, tensors.Upload("v", host, false));
  EXPECT_EQ(matrix.dtype, DType::kBF16);
  EXPECT_EQ(vector.dtype, DType::kF32);
  // The second lies between two bf16 values and goes to the even one.
  EXPECT_EQ(Read<uint16_t>(device, matrix),
            (std::vector<uint16_t>{0x3f80, 0x3f80, 0xc020, 0x7f62}));
}

TEST(DeviceTensorsTest, HalvesWidenExactly) {
  testing::TaggedDevice device;
  DeviceTensors tensors({&device, DType::kF32});
  const uint16_t bf16[] = {0x3f80, 0xc020};
  const uint16_t f16[] = {0x3c00, 0x0001};
  ASSERT_OK_AND_ASSIGN(const auto a, tensors.Upload("a", {bf16, DType::kBF16, 1, 2, 2}, true));
  ASSERT_OK_AND_ASSIGN(const auto b, tensors.Upload("b", {f16, DType::kF16, 1, 2, 2}, true));
  EXPECT_EQ(Read<float>(device, a), (std::vector<float>{1.0f, -2.5f}));
  EXPECT_EQ(Read<float>(device, b), (std::vector<float>{1.0f, 5.9604644775390625e-08f}));
}

TEST(DeviceTensorsTest, ALargeTensorGoesInPiecesByManyThreads) {
  testing::TaggedDevice device;
  DeviceTensors tensors({&device, DType::kBF16});
  std::vector<float> values(5'000'001);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 251);
  const auto count = static_cast<int64_t>(values.size());
  ASSERT_OK_AND_ASSIGN(const auto view,
                       tensors.Upload("m", kernels::F32Matrix(values.data(), 1, count), true));
  const std::vector<uint16_t> read = Read<uint16_t>(device, view);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(read[i], static_cast<uint16_t>(std::bit_cast<uint32_t>(values[i]) >> 16)) << i;
  }
}

TEST(DeviceTensorsTest, ADeviceThatIsFullNamesTheTensor) {
  testing::TaggedDevice device(/*capacity_bytes=*/20);
  DeviceTensors tensors({&device});
  const float values[6] = {};
  EXPECT_THAT(tensors.Upload("m", kernels::F32Matrix(values, 2, 3), true).status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("tensor m of 24 bytes"), HasSubstr("tagged:0"))));
}

constexpr float kValues[6] = {1, 2, 3, 4, 5, 6};

absl::Status WriteShard(const std::string& path, const std::vector<std::string>& names) {
  std::map<std::string, TensorView> tensors;
  for (const std::string& name : names)
    tensors[name] = {kValues, DType::kF32, {2, 3}, sizeof(kValues)};
  return WriteSafetensors(path, tensors);
}

absl::Status WriteIndex(const TempFolder& folder, absl::string_view text) {
  return WriteFileAtomically(folder / "model.safetensors.index.json", {text});
}

TEST(WeightsTest, TensorsInMemoryAreCheckedAsThoseOfFilesAre) {
  const auto weights = Weights::Of({{"w", {kValues, DType::kF32, {2, 3}, sizeof(kValues)}}});
  ASSERT_OK_AND_ASSIGN(const kernels::ConstMatrix matrix, weights->Matrix("w", 2, 3));
  EXPECT_EQ(matrix.data, kValues);
  EXPECT_THAT(weights->Matrix("w", 3, 2).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("[2, 3]")));
}

TEST(WeightsTest, ATensorComesAsAMatrixOrAVector) {
  const TempFolder folder;
  ASSERT_OK(
      WriteSafetensors(folder / "model.safetensors", {{"m", {kValues, DType::kF32, {2, 3}, 24}},
                                                      {"v", {kValues, DType::kF32, {4}, 16}},
                                                      {"i", {kValues, DType::kI32, {4}, 16}}}));
  ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(folder.path()));
  ASSERT_OK_AND_ASSIGN(const kernels::ConstMatrix matrix, weights->Matrix("m", 2, 3));
  EXPECT_EQ(matrix.stride, 3);
  EXPECT_EQ(static_cast<const float*>(matrix.Row(1))[0], 4.0f);
  ASSERT_OK_AND_ASSIGN(const kernels::ConstMatrix vector, weights->Vector("v", 4));
  EXPECT_EQ(vector.rows, 1);
  EXPECT_EQ(vector.cols, 4);
  EXPECT_EQ(weights->Names(), (std::vector<std::string>{"i", "m", "v"}));
  EXPECT_THAT(weights->Matrix("m", 3, 2),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("tensor m: expected shape [3, 2], found [2, 3]"),
                             HasSubstr(folder.path()))));
  EXPECT_THAT(weights->Vector("m", 6), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(weights->Vector("none", 6),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("tensor none is missing")));
  EXPECT_THAT(weights->Vector("i", 4),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found i32")));
  EXPECT_THAT(weights->Raw("none"), StatusIs(absl::StatusCode::kNotFound));
}

TEST(WeightsTest, AFolderWithoutWeightsSaysWhatWasExpected) {
  const TempFolder folder;
  EXPECT_THAT(Weights::Open(folder.path()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("model.safetensors")));
}

TEST(WeightsTest, AShardedCheckpointGivesTheLogitsOfTheSingleFile) {
  const std::string source = testing::GoldenFolder("llama-gqa");
  ASSERT_OK_AND_ASSIGN(const auto single, SafetensorsFile::Open(source + "/model.safetensors"));
  std::map<std::string, TensorView> shards[3];
  nlohmann::json index = {{"weight_map", nlohmann::json::object()}};
  size_t count = 0;
  for (const auto& [name, view] : single->tensors()) {
    const size_t shard = count++ % 3;
    shards[shard][name] = view;
    index["weight_map"][name] = absl::StrCat("model-", shard, ".safetensors");
  }
  const TempFolder folder;
  for (size_t i = 0; i < 3; ++i) {
    ASSERT_OK(WriteSafetensors(folder / absl::StrCat("model-", i, ".safetensors"), shards[i]));
  }
  ASSERT_OK(WriteIndex(folder, index.dump()));
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(source));
  ASSERT_OK_AND_ASSIGN(const auto whole, Weights::Open(source));
  ASSERT_OK_AND_ASSIGN(const auto sharded, Weights::Open(folder.path()));
  EXPECT_EQ(sharded->Names(), whole->Names());
  const std::vector<int32_t> ids = {507, 39, 68, 75, 360};
  ASSERT_OK_AND_ASSIGN(auto run,
                       testing::ModelRun::Create(spec, whole, testing::ModelRunOptions{}));
  ASSERT_OK_AND_ASSIGN(auto sharded_run,
                       testing::ModelRun::Create(spec, sharded, testing::ModelRunOptions{}));
  ASSERT_OK_AND_ASSIGN(const auto expected, run->Feed(ids));
  ASSERT_OK_AND_ASSIGN(const auto found, sharded_run->Feed(ids));
  EXPECT_TRUE(found.logits == expected.logits);
}

TEST(WeightsTest, RefusesAnIndexThatContradictsItsShards) {
  const TempFolder folder;
  ASSERT_OK(WriteShard(folder / "1.safetensors", {"a", "b"}));
  ASSERT_OK(WriteShard(folder / "2.safetensors", {"b", "c"}));
  const auto expect = [&](absl::string_view index, absl::StatusCode code,
                          const std::string& message) {
    ASSERT_OK(WriteIndex(folder, index));
    EXPECT_THAT(Weights::Open(folder.path()), StatusIs(code, HasSubstr(message))) << index;
  };
  const auto bad = absl::StatusCode::kInvalidArgument;
  expect(R"({"weight_map":{"a":"1.safetensors","c":"1.safetensors"}})", bad, "tensor c is missing");
  expect(R"({"weight_map":{"a":"1.safetensors","c":"2.safetensors"}})", bad,
         "tensor b is in another shard too");
  expect(R"({"weight_map":{"a":"3.safetensors"}})", absl::StatusCode::kNotFound, "3.safetensors");
  expect(R"({"weight_map":{"a":"../1.safetensors"}})", bad, "a: expected the name of a file");
  expect(R"({"weight_map":{"a":7}})", bad, "a: expected the name of a file");
  expect(R"({"weight_map":{}})", bad, "expected entries");
  expect(R"({"weights":{}})", bad, "weight_map: expected an object");
  expect("[]", bad, "weight_map: expected an object");
  expect("{", bad, "no valid JSON");
}

}  // namespace
}  // namespace ccoe::model
