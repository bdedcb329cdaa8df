// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/safetensors.h"

#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "runtime/base/file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using kernels::DType;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempFolder;

// Opens a file with this header and so many bytes of data (0, 1, 2, ...).
absl::StatusOr<std::unique_ptr<SafetensorsFile>> OpenWith(const std::string& header,
                                                          size_t data_bytes) {
  static const TempFolder* const folder = new TempFolder();
  std::string data(data_bytes, '\0');
  for (size_t i = 0; i < data_bytes; ++i) data[i] = static_cast<char>(i);
  const uint64_t length = header.size();
  const std::string prefix(reinterpret_cast<const char*>(&length), sizeof(length));
  const std::string path = *folder / "file.safetensors";
  EXPECT_OK(WriteFileAtomically(path, {prefix, header, data}));
  return SafetensorsFile::Open(path);
}

void ExpectRefused(const std::string& header, const std::string& message) {
  EXPECT_THAT(OpenWith(header, 16),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("file.safetensors"), HasSubstr(message))))
      << header;
}

TEST(SafetensorsTest, ReadsBackWhatWasWritten) {
  const TempFolder folder;
  const std::vector<float> wide = {1.5f, -2.0f, 3.0f};
  const std::vector<uint16_t> narrow = {1, 2, 3, 4, 5, 6};
  const std::vector<uint8_t> bytes = {9};
  const std::vector<int64_t> ids = {-7, 8};
  ASSERT_OK(WriteSafetensors(folder / "f",
                             {{"a.bytes", {bytes.data(), DType::kU8, {1}, 1}},
                              {"b.narrow", {narrow.data(), DType::kBF16, {2, 3}, 12}},
                              {"c.wide", {wide.data(), DType::kF32, {3}, 12}},
                              {"d.ids", {ids.data(), DType::kI64, {2, 1}, 16}},
                              {"e.empty", {nullptr, DType::kF16, {0, 4}, 0}}},
                             {{"format", "pt"}}));
  ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(folder / "f"));
  ASSERT_EQ(file->tensors().size(), 5u);
  for (const auto& [name, view] : file->tensors()) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % kernels::DTypeBytes(view.dtype), 0u) << name;
  }
  const TensorView& b = file->tensors().at("b.narrow");
  EXPECT_EQ(b.dtype, DType::kBF16);
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(b.data, narrow.data(), 12), 0);
  EXPECT_EQ(std::memcmp(file->tensors().at("c.wide").data, wide.data(), 12), 0);
  EXPECT_EQ(std::memcmp(file->tensors().at("d.ids").data, ids.data(), 16), 0);
  EXPECT_EQ(file->tensors().at("e.empty").size_bytes, 0u);
}

TEST(SafetensorsTest, ATensorOffItsAlignmentIsReadAllTheSame) {
  ASSERT_OK_AND_ASSIGN(const auto file,
                       OpenWith(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                R"("b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})",
                                9));
  const TensorView& b = file->tensors().at("b");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data) % 4, 0u);
  const char expected[] = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(std::memcmp(b.data, expected, 8), 0);
}

TEST(SafetensorsTest, RefusesFilesTooShortForTheirHeader) {
  const TempFolder folder;
  EXPECT_THAT(SafetensorsFile::Open(folder / "none"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/none")));
  EXPECT_THAT(SafetensorsFile::Open(folder.path()), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK(WriteFileAtomically(folder / "empty", {""}));
  EXPECT_THAT(SafetensorsFile::Open(folder / "empty"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  for (const uint64_t length : {uint64_t{9}, uint64_t{200'000'000}, UINT64_MAX, UINT64_MAX - 7}) {
    const std::string prefix(reinterpret_cast<const char*>(&length), sizeof(length));
    ASSERT_OK(WriteFileAtomically(folder / "f", {prefix, "{}      "}));
    EXPECT_THAT(SafetensorsFile::Open(folder / "f"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("header length: expected at most 8"),
                               HasSubstr(std::to_string(length)))));
  }
}

TEST(SafetensorsTest, RefusesHeadersThatAreNoTensorTable) {
  ExpectRefused("{", "no valid JSON");
  ExpectRefused("[]", "expected an object");
  ExpectRefused(R"({"a":1})", "tensor a: expected an object");
  ExpectRefused(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", "tensor a: expected a key dtype");
  ExpectRefused(R"({"a":{"dtype":3,"shape":[1],"data_offsets":[0,4]}})",
                "dtype: expected a string");
  ExpectRefused(R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,4]}})",
                "shape: expected a list");
  ExpectRefused(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})",
                "shape: expected a number >= 0");
  ExpectRefused(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})",
                "shape: expected a number >= 0");
  ExpectRefused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})",
                "data_offsets: expected [begin, end]");
  ExpectRefused(
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
      "stands twice");
  ExpectRefused(R"({"__metadata__":{"x":1}})", "__metadata__: x: expected a string");
}

TEST(SafetensorsTest, RefusesOffsetsThatLieOverlapOrLeaveTheFile) {
  ExpectRefused(R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,20]}})",
                "truncated or corrupt");
  ExpectRefused(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[8,4]}})", "found [8, 4)");
  ExpectRefused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})",
                "takes 8 bytes, found 4");
  ExpectRefused(
      R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})",
      "tensors a and b overlap");
}

TEST(SafetensorsTest, RefusesBytesBehindTheLastTensor) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_OK(OpenWith(header, 8));
  ExpectRefused(header, "8 bytes behind the header, found 16 bytes");
  ExpectRefused("{}", "0 bytes behind the header, found 16 bytes");
}

TEST(SafetensorsTest, PagesThatWereGivenBackCanBeReadAgain) {
  ASSERT_OK_AND_ASSIGN(const auto file,
                       OpenWith(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                R"("b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})",
                                9));
  const TensorView& mapped = file->tensors().at("a");
  const TensorView& copied = file->tensors().at("b");  // off its alignment
  file->Release(mapped.data, mapped.size_bytes);
  file->Release(copied.data, copied.size_bytes);
  EXPECT_EQ(static_cast<const char*>(mapped.data)[0], 0);
  EXPECT_EQ(static_cast<const char*>(copied.data)[7], 8);
}

TEST(SafetensorsTest, RefusesShapesWhoseProductOverflows) {
  ExpectRefused(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
                "below 2^64");
  ExpectRefused(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,0]}})",
                "below 2^64");
  ExpectRefused(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})",
                "at most 8 sizes");
}

TEST(SafetensorsTest, SaysThatADTypeIsNotSupported) {
  EXPECT_THAT(OpenWith(R"({"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", 16),
              StatusIs(absl::StatusCode::kUnimplemented,
                       AllOf(HasSubstr("tensor a"), HasSubstr("F8_E4M3"))));
}

TEST(SafetensorsTest, ErrorsOfWritingNameTheFile) {
  EXPECT_THAT(WriteSafetensors("/no/such/folder/f", {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such")));
  const TempFolder folder;
  EXPECT_THAT(WriteSafetensors(folder / "f", {}, {{"key", "\xff"}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace ccoe::model
