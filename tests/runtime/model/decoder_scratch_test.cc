#include <memory>

#include "gtest/gtest.h"
#include "runtime/model/decoder.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using testing::StatusIs;

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
