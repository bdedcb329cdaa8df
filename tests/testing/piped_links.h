// Links over gRPC on loopback whose rows go from device to device through pipes, in NCCL's place.
#ifndef CCOE_TESTS_TESTING_PIPED_LINKS_H_
#define CCOE_TESTS_TESTING_PIPED_LINKS_H_

#include <cstdint>
#include <deque>
#include <memory>

#include "runtime/base/check.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "runtime/exchange/row_memory.h"
#include "services/expert/exchange_service.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/testing/pipe_carriers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::testing {

// Outlives its links.
class PipedLinks {
 public:
  // Rows may take `bytes` of `device` at once.
  PipedLinks(TaggedDevice* device, size_t bytes) : carriers_(MakeMemory(device, bytes)) {}

  // A link to a server of its own before `handler`, which outlives this.
  std::unique_ptr<exchange::ActivationLink> Connect(exchange::SwapHandler* handler) {
    services::ExchangeServiceOptions service;
    service.carriers = &carriers_;
    workers_.emplace_back(handler, service);
    exchange::GrpcLinkOptions link;
    link.hidden_size = handler->hidden_size();
    link.carriers = &carriers_;
    link.require_carrier = true;
    auto opened = exchange::OpenGrpcLink(workers_.back().server.TcpChannel(), link);
    CCOE_CHECK(opened.ok());
    return *std::move(opened);
  }

  exchange::RowMemory& memory() { return *carriers_.memory(); }

 private:
  struct Worker {
    Worker(exchange::SwapHandler* handler, const services::ExchangeServiceOptions& options)
        : service(handler, options), server(&service) {}
    services::ExchangeService service;
    exchange::ExchangeServer server;
  };

  static std::shared_ptr<exchange::RowMemory> MakeMemory(TaggedDevice* device, size_t bytes) {
    auto memory = exchange::RowMemory::Create(device, bytes);
    CCOE_CHECK(memory.ok());
    return *std::move(memory);
  }

  PipeCarriers carriers_;
  std::deque<Worker> workers_;
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_PIPED_LINKS_H_
