// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/base/status_macros.h"
#include "tools/gpu_probe/probe.h"

namespace ccoe::probe {
namespace {

constexpr size_t kMostText = 600;  // of what a failure says

// A line for each test that fails, one for all that skip for the same reason, and one now and then.
class Reporter final : public ::testing::EmptyTestEventListener {
 public:
  explicit Reporter(Probe& probe) : probe_(probe) {}

  void OnTestPartResult(const ::testing::TestPartResult& part) override {
    if (part.failed() && text_.empty()) text_ = part.summary();
    if (part.skipped() && part.message() != skipped_for_) {
      skipped_for_ = part.message();
      probe_.Say({{"what", "a test skips itself"}, {"why", skipped_for_}});
    }
  }
  void OnTestEnd(const ::testing::TestInfo& test) override {
    ++run_;
    if (test.result()->Failed()) {
      ++failed_;
      probe_.Fail(absl::StrCat(test.test_suite_name(), ".", test.name()),
                  text_.substr(0, kMostText));
    }
    text_.clear();
    if (run_ % kEvery == 0) Sum("so far");
  }

  void Sum(const char* what) { probe_.Say({{"what", what}, {"tests", run_}, {"failed", failed_}}); }
  int64_t run() const { return run_; }

 private:
  static constexpr int64_t kEvery = 50;

  Probe& probe_;
  int64_t run_ = 0, failed_ = 0;
  std::string text_, skipped_for_;
};

}  // namespace

absl::Status RunConformance(Probe& probe) {
  CCOE_RETURN_IF_ERROR(probe.Device().status());
  // At small sizes: what tests/kernels/cuda/cuda_under_test.h looks at.
  setenv("CCOE_SLOW_DEVICE", "1", /*overwrite=*/1);
  if (!probe.options().tests.empty()) {
    ::testing::GTEST_FLAG(filter) = probe.options().tests;
  }
  ::testing::TestEventListeners& listeners = ::testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  auto* reporter = new Reporter(probe);
  listeners.Append(reporter);  // GoogleTest's now
  int argc = 1;
  char name[] = "gpu_probe";
  char* argv[] = {name, nullptr};
  ::testing::InitGoogleTest(&argc, argv);
  const int code = RUN_ALL_TESTS();
  reporter->Sum("all");
  if (reporter->run() == 0) return absl::NotFoundError("no test ran");
  return code == 0 || probe.failed() ? absl::OkStatus()
                                     : absl::InternalError("the suite failed outside of its tests");
}

}  // namespace ccoe::probe
