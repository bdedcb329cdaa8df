#include "runtime/model/kv_storage.h"

#include <cstring>

#include "gmock/gmock.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

KvStorageOptions Options(LayerRange layers, int64_t pages, int64_t page_tokens) {
  KvStorageOptions options;
  options.layers = layers;
  options.pages = pages;
  options.page_tokens = page_tokens;
  return options;
}

TEST(KvStorageTest, LayersLieApartAlignedAndReadAsZero) {
  const ModelSpec spec = testing::TinySpec();
  ASSERT_OK_AND_ASSIGN(auto kv,
                       KvStorage::Create(&kernels::CpuDevice(), spec, Options({0, 2}, 3, 5)));
  const size_t part = 3 * 5 * 2 * 8 * sizeof(float);
  for (const int32_t layer : {0, 1}) {
    const kernels::KvLayer view = kv->Layer(layer);
    EXPECT_EQ(view.pages, 3);
    EXPECT_EQ(view.page_tokens, 5);
    EXPECT_EQ(view.kv_heads, 2);
    EXPECT_EQ(view.head_dim, 8);
    for (void* data : {view.k, view.v}) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
      for (size_t i = 0; i < part; ++i) ASSERT_EQ(static_cast<const char*>(data)[i], 0);
      std::memset(data, 1 + layer, part);  // would show as not zero in a part that overlaps
    }
  }
}

TEST(KvStorageTest, LayersAreNumberedAsInTheModel) {
  const ModelSpec spec = testing::TinySpec();
  ASSERT_OK_AND_ASSIGN(auto kv,
                       KvStorage::Create(&kernels::CpuDevice(), spec, Options({1, 2}, 3, 5)));
  EXPECT_EQ(kv->layers(), (LayerRange{1, 2}));
  EXPECT_NE(kv->Layer(1).k, nullptr);
}

TEST(KvStorageTest, BytesPerTokenCountsKAndVOfTheLayers) {
  const ModelSpec spec = testing::TinySpec();
  EXPECT_EQ(KvStorage::BytesPerToken(spec, {0, 1}), 2 * 2 * 8 * 4);
  EXPECT_EQ(KvStorage::BytesPerToken(spec, {0, 2}), 2 * 2 * 2 * 8 * 4);
}

TEST(KvStorageTest, LatentAttentionKeepsOneCopyForKAndV) {
  const ModelSpec spec = testing::TinyLatentSpec();
  EXPECT_EQ(KvStorage::BytesPerToken(spec, {0, 2}), 2 * 16 * 4);
  ASSERT_OK_AND_ASSIGN(auto kv,
                       KvStorage::Create(&kernels::CpuDevice(), spec, Options({0, 2}, 3, 5)));
  const size_t part = 3 * 5 * 16 * sizeof(float);
  for (const int32_t layer : {0, 1}) {
    const kernels::KvLayer view = kv->Layer(layer);
    EXPECT_EQ(view.v, view.k);
    EXPECT_EQ(view.kv_heads, 1);
    EXPECT_EQ(view.head_dim, 16);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.k) % 64, 0u);
    for (size_t i = 0; i < part; ++i) ASSERT_EQ(static_cast<const char*>(view.k)[i], 0);
    std::memset(view.k, 1 + layer, part);
  }
}

TEST(KvStorageTest, RefusesAbsurdSizesWithTheSumSpelledOut) {
  const ModelSpec spec = testing::TinySpec();
  kernels::Device* device = &kernels::CpuDevice();
  EXPECT_THAT(KvStorage::Create(device, spec, Options({0, 3}, 1, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(KvStorage::Create(device, spec, Options({1, 1}, 1, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(KvStorage::Create(device, spec, Options({0, 2}, 0, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(KvStorage::Create(device, spec, Options({0, 2}, 1, -1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(KvStorage::Create(device, spec, Options({0, 2}, INT64_MAX, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(KvStorage::Create(device, spec, Options({0, 2}, (int64_t{1} << 31) - 1, 1 << 20)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("2147483647 pages of 1048576 tokens"),
                             HasSubstr("256 bytes a token"))));
}

}  // namespace
}  // namespace ccoe::model
