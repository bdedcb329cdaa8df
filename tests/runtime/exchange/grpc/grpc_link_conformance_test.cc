// The conformance suite over gRPC: a TCP connection on loopback, and the in-process channel of the
// embedded mode.
#include "runtime/exchange/grpc/grpc_link.h"
#include "services/expert/exchange_service.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/runtime/exchange/link_conformance.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

class GrpcWorker final : public LinkWorker {
 public:
  GrpcWorker(SwapHandler* handler, const LinkSetup& setup, bool in_process)
      : in_process_(in_process), service_(handler, Options(setup)), server_(&service_) {}

  std::unique_ptr<ActivationLink> Connect(const LinkSetup& setup) override {
    GrpcLinkOptions options;
    options.hidden_size = setup.hidden_size;
    options.max_swaps_in_flight = setup.max_swaps_in_flight;
    options.limits = setup.limits;
    auto link =
        OpenGrpcLink(in_process_ ? server_.InProcessChannel() : server_.TcpChannel(), options);
    EXPECT_OK(link.status());
    return link.ok() ? *std::move(link) : nullptr;
  }

 private:
  static services::ExchangeServiceOptions Options(const LinkSetup& setup) {
    services::ExchangeServiceOptions options;
    options.max_swaps_in_flight = setup.max_swaps_in_flight;
    options.limits = setup.limits;
    return options;
  }

  const bool in_process_;
  services::ExchangeService service_;
  ExchangeServer server_;
};

LinkTransport Grpc(const std::string& name, bool in_process) {
  return {name, [in_process](SwapHandler* handler, const LinkSetup& setup) {
            return std::make_unique<GrpcWorker>(handler, setup, in_process);
          }};
}

INSTANTIATE_TEST_SUITE_P(Grpc, LinkConformanceTest,
                         ::testing::Values(Grpc("Tcp", false), Grpc("InProcess", true)),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace ccoe::exchange
