// SPDX-License-Identifier: Apache-2.0
// decoder_pass.h, and the attention half of decoder.h.
#include "runtime/model/decoder_pass.h"

#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/model/decoder.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

constexpr int64_t kHidden = 24;

class DecoderPassTest : public ::testing::TestWithParam<ModelSpec> {
 protected:
  void SetUp() override {
    ASSERT_OK(testing::WriteTinyWeights(spec_, folder_.path(), 5));
    ASSERT_OK_AND_ASSIGN(auto weights, Weights::Open(folder_.path()));
    ASSERT_OK_AND_ASSIGN(decoder_, Decoder::Create(spec_, {0, 2}, std::move(weights)));
    KvStorageOptions options;
    options.layers = {0, 2};
    options.pages = 4;
    options.page_tokens = 4;
    ASSERT_OK_AND_ASSIGN(kv_, KvStorage::Create(&ops_->device(), spec_, options));
  }
  static std::vector<float> Rows(int64_t rows) {
    std::vector<float> values(static_cast<size_t>(rows * kHidden));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i * 37 % 97) / 48.0f - 1.0f;
    }
    return values;
  }
  static kernels::Matrix View(std::vector<float>& rows) {
    return kernels::F32Matrix(rows.data(), static_cast<int64_t>(rows.size()) / kHidden, kHidden);
  }
  static RowBatch One(int64_t rows, absl::Span<const int32_t> table) {
    RowBatch batch;
    batch.sequences.push_back({0, rows, 0, table});
    return batch;
  }

  const ModelSpec spec_ = GetParam();
  testing::TempFolder folder_;
  ThreadTeam team_{2};
  std::unique_ptr<kernels::Ops> ops_ = kernels::MakeCpuOps(&team_);
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<KvStorage> kv_;
  DecoderScratch scratch_{&kernels::CpuDevice()};
};

TEST_P(DecoderPassTest, LayersInPartsGiveTheSameBitsAsRun) {
  const std::vector<int32_t> table = {3, 1};
  std::vector<float> whole = Rows(6), parts = whole;
  ASSERT_OK(decoder_->Run({0, 2}, One(6, table), *kv_, *ops_, scratch_, View(whole)));
  ASSERT_OK_AND_ASSIGN(DecoderPass made, decoder_->BeginPass(One(6, table), *kv_, *ops_));
  const DecoderPass pass = std::move(made);
  for (const int32_t layer : {0, 1}) {
    ASSERT_OK(decoder_->RunAttention(layer, pass, *ops_, scratch_, View(parts)));
    ASSERT_OK(decoder_->RunFfn(layer, pass, *ops_, scratch_, View(parts)));
  }
  EXPECT_EQ(parts, whole);
}

// Within RunCaptured a TaggedDevice aborts on each of the three.
TEST_P(DecoderPassTest, APassInTheMemoryOfTheOneBeforeNeitherWaitsNorCopiesNorAllocates) {
  const std::vector<int32_t> table = {3, 1};
  testing::TaggedDevice device;
  const auto ops = testing::MakeTaggedOps(&device, &team_);
  KvStorageOptions options;
  options.layers = {0, 2};
  options.pages = 4;
  options.page_tokens = 4;
  ASSERT_OK_AND_ASSIGN(const auto kv, KvStorage::Create(&device, spec_, options));
  DecoderPass pass;
  ASSERT_OK(pass.Reserve(&device, spec_, 6));
  for (const int64_t rows : {6, 2}) {
    absl::Status status = absl::UnknownError("not run");
    ops->RunCaptured(1, [&] {
      auto next = decoder_->BeginPass(One(rows, table), *kv, *ops, std::move(pass));
      status = next.status();
      if (next.ok()) pass = *std::move(next);
    });
    ASSERT_OK(status);
    EXPECT_EQ(pass.rows(), rows);
  }
  EXPECT_EQ(device.uploaded_bytes(), 0);
}

TEST_P(DecoderPassTest, AnEmptyPassIsNothing) {
  ASSERT_OK_AND_ASSIGN(const DecoderPass pass, decoder_->BeginPass(RowBatch{}, *kv_, *ops_));
  EXPECT_EQ(pass.rows(), 0);
  std::vector<float> none;
  EXPECT_OK(decoder_->RunAttention(0, pass, *ops_, scratch_, View(none)));
  EXPECT_OK(decoder_->RunFfn(0, pass, *ops_, scratch_, View(none)));
}

TEST_P(DecoderPassTest, RefusesWhatDoesNotFit) {
  const std::vector<int32_t> table = {3, 1}, wild = {3, 4};
  EXPECT_THAT(decoder_->BeginPass(One(6, wild), *kv_, *ops_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("pages 0 to 3, found 4")));
  EXPECT_THAT(decoder_->BeginPass(One(9, table), *kv_, *ops_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected 3 pages")));
  ASSERT_OK_AND_ASSIGN(const DecoderPass pass, decoder_->BeginPass(One(6, table), *kv_, *ops_));
  std::vector<float> rows = Rows(6), fewer = Rows(5);
  EXPECT_THAT(decoder_->RunAttention(2, pass, *ops_, scratch_, View(rows)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found [2, 3)")));
  EXPECT_THAT(decoder_->RunAttention(0, pass, *ops_, scratch_, View(fewer)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected [6, 24]")));
  EXPECT_THAT(decoder_->RunFfn(-1, pass, *ops_, scratch_, View(rows)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found [-1, 0)")));
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderPassTest,
                         ::testing::Values(testing::TinySpec(), testing::TinyMoeSpec(),
                                           testing::TinyLatentSpec()));

// The CPU's memory with a limit, counting what is out.
class LimitedDevice final : public kernels::Device {
 public:
  std::string Name() const override { return "limited"; }
  bool ReadsHostMemory() const override { return true; }
  absl::StatusOr<kernels::Buffer> Allocate(size_t size_bytes) override {
    if (out_ + size_bytes > limit_) return absl::ResourceExhaustedError("limit");
    out_ += size_bytes;
    ++allocations_;
    return kernels::Buffer(this, ::operator new(size_bytes), size_bytes);
  }
  absl::Status CopyFromHost(const void*, void*, size_t) override { return absl::OkStatus(); }
  absl::Status CopyToHost(const void*, void*, size_t) override { return absl::OkStatus(); }

  size_t out() const { return out_; }
  int allocations() const { return allocations_; }
  void set_limit(size_t bytes) { limit_ = bytes; }

 private:
  void Free(void* data, size_t size_bytes) override {
    ::operator delete(data);
    out_ -= size_bytes;
  }
  size_t out_ = 0;
  size_t limit_ = SIZE_MAX;
  int allocations_ = 0;
};

TEST(DecoderScratchTest, FewerRowsNeedNoNewMemoryAndMoreRowsDoubleIt) {
  LimitedDevice device;
  {
    DecoderScratch scratch(&device);
    const ScratchWidths widths(testing::TinySpec());
    ASSERT_OK(scratch.Reserve(widths, 10));
    const size_t ten_rows = device.out();
    const int allocations = device.allocations();
    ASSERT_OK(scratch.Reserve(widths, 1));
    ASSERT_OK(scratch.Reserve(widths, 10));
    EXPECT_EQ(device.allocations(), allocations);
    ASSERT_OK(scratch.Reserve(widths, 11));
    EXPECT_EQ(device.out(), 2 * ten_rows);
  }
  EXPECT_EQ(device.out(), 0u);
}

TEST(DecoderScratchTest, PassesOnThatTheDeviceIsFull) {
  LimitedDevice device;
  device.set_limit(1000);
  DecoderScratch scratch(&device);
  EXPECT_THAT(scratch.Reserve(ScratchWidths(testing::TinySpec()), 100),
              StatusIs(absl::StatusCode::kResourceExhausted));
  device.set_limit(SIZE_MAX);
  EXPECT_OK(scratch.Reserve(ScratchWidths(testing::TinySpec()), 100));
}

}  // namespace
}  // namespace ccoe::model
