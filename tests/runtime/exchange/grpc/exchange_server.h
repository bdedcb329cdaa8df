// SPDX-License-Identifier: Apache-2.0
// A gRPC server around an Exchange service, for tests.
#ifndef CCOE_TESTS_RUNTIME_EXCHANGE_GRPC_EXCHANGE_SERVER_H_
#define CCOE_TESTS_RUNTIME_EXCHANGE_GRPC_EXCHANGE_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/exchange/grpc/wire_messages.h"

namespace ccoe::exchange {

class ExchangeServer {
 public:
  // Listens on a free loopback port. `service` must outlive the server.
  explicit ExchangeServer(grpc::Service* service) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(kMaxLinkMessageBytes);
    builder.RegisterService(service);
    server_ = builder.BuildAndStart();
  }
  // Cancels what still runs.
  ~ExchangeServer() { server_->Shutdown(std::chrono::system_clock::now()); }

  int port() const { return port_; }
  std::string target() const { return absl::StrCat("127.0.0.1:", port_); }

  std::shared_ptr<grpc::Channel> TcpChannel() const { return Dial(target()); }
  std::shared_ptr<grpc::Channel> InProcessChannel() {
    return server_->InProcessChannel(Arguments());
  }

  static std::shared_ptr<grpc::Channel> Dial(const std::string& target) {
    return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), Arguments());
  }

 private:
  static grpc::ChannelArguments Arguments() {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxLinkMessageBytes);
    // A connection of its own for each link, and no proxy from the environment.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    return arguments;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace ccoe::exchange

#endif  // CCOE_TESTS_RUNTIME_EXCHANGE_GRPC_EXCHANGE_SERVER_H_
