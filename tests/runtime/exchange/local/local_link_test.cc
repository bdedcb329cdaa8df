// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/local/local_link.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/exchange/row_block.h"
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
    return MakeLocalLink(handler_, {setup.credit + setup.backlog, setup.limits, memory_});
  }

 private:
  SwapHandler* const handler_;
  const std::shared_ptr<RowMemory> memory_;
};

LinkTransport Local() {
  return {
      "Local",
      [](SwapHandler* handler, const LinkSetup&) { return std::make_unique<LocalWorker>(handler); },
      /*worker_can_die=*/false, /*has_wire=*/false};
}

LinkTransport OnDevice() {
  static auto* const device = new testing::TaggedDevice();
  LinkTransport transport;
  transport.name = "RowsOfADevice";
  transport.device = device;
  transport.worker_can_die = false;
  transport.has_wire = false;
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

TEST(LocalLinkTest, RowsAreHandedOverWhereTheyLie) {
  testing::FakeSwapHandler handler(4);
  class Watching final : public SwapHandler {
   public:
    explicit Watching(SwapHandler* inner) : inner_(inner) {}
    void HandleEnvelope(uint64_t peer, Envelope envelope, SwapCallback done) override {
      seen = envelope.swaps.front().rows.block.view().data;
      inner_->HandleEnvelope(peer, std::move(envelope), std::move(done));
    }
    void HandleCancel(uint64_t peer, const std::vector<uint64_t>& ids) override {
      inner_->HandleCancel(peer, ids);
    }
    void HandleRelease(uint64_t peer, uint64_t id) override { inner_->HandleRelease(peer, id); }
    uint64_t AddPeer() override { return inner_->AddPeer(); }
    void RemovePeer(uint64_t peer) override { inner_->RemovePeer(peer); }
    HostProgress Progress() const override { return inner_->Progress(); }
    int64_t hidden_size() const override { return inner_->hidden_size(); }
    std::string numerics() const override { return inner_->numerics(); }

    const void* seen = nullptr;

   private:
    SwapHandler* const inner_;
  } watching(&handler);
  SwapRecorder recorder;
  const RowBlock block(std::vector<float>{1, 2, 3, 4});
  const auto link = MakeLocalLink(&watching);
  link->Send(OneSwap(MakeHeader(1, {{1, 0, 1, ReturnRows::kAll}}, 4), {block, {}}),
             recorder.Keep());
  ASSERT_OK(recorder.Await(1).status());
  EXPECT_EQ(watching.seen, block.view().data);
}

TEST(LocalLinkTest, NamesItself) {
  testing::FakeSwapHandler handler(4);
  EXPECT_EQ(MakeLocalLink(&handler)->Name(), "local");
}

}  // namespace
}  // namespace ccoe::exchange
