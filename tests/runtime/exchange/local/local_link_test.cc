#include "runtime/exchange/local/local_link.h"

#include "tests/runtime/exchange/link_conformance.h"

namespace ccoe::exchange {
namespace {

class LocalWorker final : public LinkWorker {
 public:
  explicit LocalWorker(SwapHandler* handler) : handler_(handler) {}
  std::unique_ptr<ActivationLink> Connect(const LinkSetup& setup) override {
    return MakeLocalLink(handler_, {setup.max_swaps_in_flight, setup.limits});
  }

 private:
  SwapHandler* const handler_;
};

LinkTransport Local() {
  return {
      "Local",
      [](SwapHandler* handler, const LinkSetup&) { return std::make_unique<LocalWorker>(handler); },
      /*worker_can_die=*/false};
}

INSTANTIATE_TEST_SUITE_P(Local, LinkConformanceTest, ::testing::Values(Local()),
                         [](const auto& info) { return info.param.name; });

TEST(LocalLinkTest, NamesItself) {
  testing::FakeSwapHandler handler(4);
  EXPECT_EQ(MakeLocalLink(&handler)->Name(), "local");
}

}  // namespace
}  // namespace ccoe::exchange
