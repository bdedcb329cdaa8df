// SPDX-License-Identifier: Apache-2.0
// Links over gRPC on loopback whose rows go from device to device through pipes, in NCCL's place.
#ifndef CCOE_TESTS_TESTING_PIPED_LINKS_H_
#define CCOE_TESTS_TESTING_PIPED_LINKS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "runtime/base/check.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/grpc/exchange_service.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "runtime/exchange/row_block.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/testing/pipe_carriers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::testing {

// A link with the server at its far end, which ends before the handler does.
class PipedLink final : public exchange::ActivationLink {
 public:
  PipedLink(exchange::SwapHandler* handler, PipeCarriers* carriers)
      : service_(handler, ServiceOptions(carriers)), server_(&service_) {
    exchange::GrpcLinkOptions options;
    options.identity.hidden_size = handler->hidden_size();
    options.carriers = carriers;
    options.require_carrier = true;
    auto opened = exchange::OpenGrpcLink(server_.TcpChannel(), options);
    CCOE_CHECK(opened.ok());
    link_ = *std::move(opened);
  }

  void Send(exchange::Envelope envelope, exchange::SwapCallback done) override {
    link_->Send(std::move(envelope), std::move(done));
  }
  void CancelSwaps(std::vector<uint64_t> swap_ids) override {
    link_->CancelSwaps(std::move(swap_ids));
  }
  exchange::RowMemory* device_memory() const override { return link_->device_memory(); }
  void ReleaseSequence(uint64_t sequence_id) override { link_->ReleaseSequence(sequence_id); }
  bool healthy() const override { return link_->healthy(); }
  absl::Status Health() const override { return link_->Health(); }
  std::string WhereIs(uint64_t swap_id) const override { return link_->WhereIs(swap_id); }
  exchange::LinkBounds bounds() const override { return link_->bounds(); }
  exchange::LinkPeer peer() const override { return link_->peer(); }
  void Close() override { link_->Close(); }
  std::string Name() const override { return link_->Name(); }

 private:
  static exchange::ExchangeServiceOptions ServiceOptions(PipeCarriers* carriers) {
    exchange::ExchangeServiceOptions options;
    options.link.carriers = carriers;
    return options;
  }

  exchange::ExchangeService service_;
  exchange::ExchangeServer server_;
  std::unique_ptr<exchange::ActivationLink> link_;
};

// Outlives its links.
class PipedLinks {
 public:
  // Rows may take `bytes` of `device` at once.
  PipedLinks(TaggedDevice* device, size_t bytes) : carriers_(MakeMemory(device, bytes)) {}

  // A link to a server of its own before `handler`.
  std::unique_ptr<exchange::ActivationLink> Connect(exchange::SwapHandler* handler) {
    return std::make_unique<PipedLink>(handler, &carriers_);
  }

  exchange::RowMemory& memory() { return *carriers_.memory(); }

 private:
  static std::shared_ptr<exchange::RowMemory> MakeMemory(TaggedDevice* device, size_t bytes) {
    auto memory = exchange::RowMemory::Create(device, bytes);
    CCOE_CHECK(memory.ok());
    return *std::move(memory);
  }

  PipeCarriers carriers_;
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_PIPED_LINKS_H_
