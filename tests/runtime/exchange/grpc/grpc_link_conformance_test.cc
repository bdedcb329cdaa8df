// SPDX-License-Identifier: Apache-2.0
// The conformance suite over gRPC: a TCP connection on loopback, the in-process channel of the
// embedded mode, and connections whose rows go beside the stream, of host memory and of a device.
#include "runtime/exchange/grpc/exchange_service.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/runtime/exchange/link_conformance.h"
#include "tests/testing/pipe_carriers.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

class GrpcWorker final : public LinkWorker {
 public:
  GrpcWorker(SwapHandler* handler, const LinkSetup& setup, bool in_process,
             std::shared_ptr<testing::PipeCarriers> carriers)
      : in_process_(in_process),
        carriers_(std::move(carriers)),
        service_(handler, Options(setup, carriers_.get())),
        server_(&service_) {
    if (carriers_ != nullptr) kept_.push_back(carriers_);
  }

  std::unique_ptr<ActivationLink> Connect(const LinkSetup& setup) override {
    GrpcLinkOptions options;
    options.identity.hidden_size = setup.hidden_size;
    options.use.limits = setup.limits;
    options.backlog = setup.backlog;
    options.carriers = carriers_.get();
    options.require_carrier = true;
    options.patience.silence = absl::Seconds(20);  // silence is peer_death_test's
    auto link =
        OpenGrpcLink(in_process_ ? server_.InProcessChannel() : server_.TcpChannel(), options);
    EXPECT_OK(link.status());
    return link.ok() ? *std::move(link) : nullptr;
  }

 private:
  static ExchangeServiceOptions Options(const LinkSetup& setup, RowCarrierFactory* carriers) {
    ExchangeServiceOptions options;
    options.link.identity.worker_id = "expert-1";
    options.link.carriers = carriers;
    options.link.grant = {setup.credit, setup.limits};
    return options;
  }

  // Links may outlive their worker, and their carriers' factory must outlive them.
  static inline std::vector<std::shared_ptr<testing::PipeCarriers>> kept_;

  const bool in_process_;
  const std::shared_ptr<testing::PipeCarriers> carriers_;
  ExchangeService service_;
  ExchangeServer server_;
};

LinkTransport Grpc(const std::string& name, bool in_process) {
  return {name, [in_process](SwapHandler* handler, const LinkSetup& setup) {
            return std::make_unique<GrpcWorker>(handler, setup, in_process, nullptr);
          }};
}

// Rows beside the stream, from host memory to host memory.
LinkTransport Beside() {
  return {"RowsBesideTheStream", [](SwapHandler* handler, const LinkSetup& setup) {
            return std::make_unique<GrpcWorker>(handler, setup, false,
                                                std::make_shared<testing::PipeCarriers>());
          }};
}

// From device to device.
LinkTransport OnDevice() {
  static auto* const device = new testing::TaggedDevice();
  LinkTransport transport;
  transport.name = "RowsOfADevice";
  transport.device = device;
  transport.start = [](SwapHandler* handler, const LinkSetup& setup) {
    auto memory = RowMemory::Create(device, size_t{128} << 20);
    EXPECT_OK(memory.status());
    return std::make_unique<GrpcWorker>(
        handler, setup, false, std::make_shared<testing::PipeCarriers>(*std::move(memory)));
  };
  return transport;
}

INSTANTIATE_TEST_SUITE_P(Grpc, LinkConformanceTest,
                         ::testing::Values(Grpc("Tcp", false), Grpc("InProcess", true), Beside(),
                                           OnDevice()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace ccoe::exchange
