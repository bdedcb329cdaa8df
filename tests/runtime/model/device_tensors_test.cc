#include "runtime/model/device_tensors.h"

#include <bit>
#include <vector>

#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::model {
namespace {

using kernels::DType;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

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

}  // namespace
}  // namespace ccoe::model
