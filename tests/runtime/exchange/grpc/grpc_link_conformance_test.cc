// The conformance suite over gRPC: a TCP connection on loopback, the in-process channel of the
// embedded mode, and a connection whose rows go beside the stream.
#include "runtime/exchange/grpc/grpc_link.h"
#include "services/expert/exchange_service.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/runtime/exchange/link_conformance.h"
#include "tests/testing/pipe_carriers.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

class GrpcWorker final : public LinkWorker {
 public:
  GrpcWorker(SwapHandler* handler, const LinkSetup& setup, bool in_process, bool beside)
      : in_process_(in_process),
        carriers_(beside ? std::make_shared<testing::PipeCarriers>() : nullptr),
        service_(handler, Options(setup, carriers_.get())),
        server_(&service_) {}

  std::unique_ptr<ActivationLink> Connect(const LinkSetup& setup) override {
    GrpcLinkOptions options;
    options.hidden_size = setup.hidden_size;
    options.max_swaps_in_flight = setup.max_swaps_in_flight;
    options.limits = setup.limits;
    options.carriers = carriers_.get();
    options.require_carrier = true;
    auto link =
        OpenGrpcLink(in_process_ ? server_.InProcessChannel() : server_.TcpChannel(), options);
    EXPECT_OK(link.status());
    if (carriers_ != nullptr) kept_.push_back(carriers_);
    return link.ok() ? *std::move(link) : nullptr;
  }

 private:
  static services::ExchangeServiceOptions Options(const LinkSetup& setup,
                                                  RowCarrierFactory* carriers) {
    services::ExchangeServiceOptions options;
    options.carriers = carriers;
    options.max_swaps_in_flight = setup.max_swaps_in_flight;
    options.limits = setup.limits;
    return options;
  }

  // Links may outlive their worker, and their carriers' factory must outlive them.
  static inline std::vector<std::shared_ptr<testing::PipeCarriers>> kept_;

  const bool in_process_;
  const std::shared_ptr<testing::PipeCarriers> carriers_;
  services::ExchangeService service_;
  ExchangeServer server_;
};

LinkTransport Grpc(const std::string& name, bool in_process, bool beside = false) {
  return {name, [in_process, beside](SwapHandler* handler, const LinkSetup& setup) {
            return std::make_unique<GrpcWorker>(handler, setup, in_process, beside);
          }};
}

INSTANTIATE_TEST_SUITE_P(Grpc, LinkConformanceTest,
                         ::testing::Values(Grpc("Tcp", false), Grpc("InProcess", true),
                                           Grpc("RowsBesideTheStream", false, true)),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace ccoe::exchange
