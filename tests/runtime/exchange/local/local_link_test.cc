#include "runtime/exchange/local/local_link.h"

#include <memory>
#include <utility>

#include "runtime/exchange/row_memory.h"
#include "tests/runtime/exchange/link_conformance.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

class LocalWorker final : public LinkWorker {
 public:
  explicit LocalWorker(SwapHandler* handler, std::shared_ptr<RowMemory> memory = nullptr)
      : handler_(handler), memory_(std::move(memory)) {}
  std::unique_ptr<ActivationLink> Connect(const LinkSetup& setup) override {
    return MakeLocalLink(handler_, {setup.max_swaps_in_flight, setup.limits, memory_});
  }

 private:
  SwapHandler* const handler_;
  const std::shared_ptr<RowMemory> memory_;
};

LinkTransport Local() {
  return {
      "Local",
      [](SwapHandler* handler, const LinkSetup&) { return std::make_unique<LocalWorker>(handler); },
      /*worker_can_die=*/false};
}

LinkTransport OnDevice() {
  static auto* const device = new testing::TaggedDevice();
  LinkTransport transport;
  transport.name = "RowsOfADevice";
  transport.device = device;
  transport.worker_can_die = false;
  transport.start = [](SwapHandler* handler, const LinkSetup&) {
    auto memory = RowMemory::Create(device, size_t{128} << 20);
    EXPECT_OK(memory.status());
    return std::make_unique<LocalWorker>(handler, *std::move(memory));
  };
  return transport;
}

INSTANTIATE_TEST_SUITE_P(Local, LinkConformanceTest, ::testing::Values(Local(), OnDevice()),
                         [](const auto& info) { return info.param.name; });

TEST(LocalLinkTest, AHandlerOfAnotherDeviceGetsHostRows) {
  testing::TaggedDevice device, other;
  testing::FakeSwapHandler handler(4, &other);
  LinkOptions options;
  ASSERT_OK_AND_ASSIGN(options.memory, RowMemory::Create(&device, 4096));
  EXPECT_EQ(MakeLocalLink(&handler, options)->device_memory(), nullptr);
}

TEST(LocalLinkTest, NamesItself) {
  testing::FakeSwapHandler handler(4);
  EXPECT_EQ(MakeLocalLink(&handler)->Name(), "local");
}

}  // namespace
}  // namespace ccoe::exchange
