// A raw client of the Exchange service, for tests that send what no link would.
#ifndef CCOE_TESTS_SERVICES_EXPERT_EXCHANGE_CLIENT_H_
#define CCOE_TESTS_SERVICES_EXPERT_EXCHANGE_CLIENT_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/exchange/grpc/wire_messages.h"

namespace ccoe::services {

// One stream. No call waits longer than a minute.
class ExchangeClient {
 public:
  explicit ExchangeClient(std::shared_ptr<grpc::Channel> channel)
      : stub_(v1::Exchange::NewStub(channel)) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
    stream_ = stub_->Open(&context_);
  }
  ~ExchangeClient() {
    context_.TryCancel();
    if (!finished_) stream_->Finish();
  }

  static v1::OpenLink GoodOpen(int64_t hidden_size) {
    v1::OpenLink open;
    open.set_protocol_version(exchange::kExchangeProtocolVersion);
    open.set_worker_id("raw");
    open.set_hidden_size(hidden_size);
    open.set_wire_dtype(v1::WIRE_DTYPE_F32);
    return open;
  }

  // One sequence of two rows, all of them coming back, with the bytes they need.
  static v1::LinkMessage GoodSwap(uint64_t step, int64_t hidden_size) {
    exchange::StepHeader header;
    header.step_id = step;
    header.expert = {"math", 1};
    header.layers = {6, 8};
    header.hidden_size = hidden_size;
    header.sequences = {{1, 0, 2, exchange::ReturnRows::kAll}};
    v1::LinkMessage message;
    exchange::ToWire(header, *message.mutable_swap()->mutable_header());
    message.mutable_swap()->set_rows(std::string(2 * hidden_size * 4, '\0'));
    return message;
  }

  bool Send(const v1::LinkMessage& message) { return stream_->Write(message); }
  bool Send(const v1::OpenLink& open) {
    v1::LinkMessage message;
    *message.mutable_open() = open;
    return Send(message);
  }
  // The next reply; an empty one where the stream has ended.
  v1::LinkReply Read() {
    v1::LinkReply reply;
    if (!stream_->Read(&reply)) return v1::LinkReply();
    return reply;
  }
  // Reads to the end of the stream and returns its status.
  grpc::Status End() {
    v1::LinkReply reply;
    while (stream_->Read(&reply)) {
    }
    finished_ = true;
    return stream_->Finish();
  }
  void HalfClose() { stream_->WritesDone(); }
  void Cancel() { context_.TryCancel(); }

 private:
  std::unique_ptr<v1::Exchange::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::LinkMessage, v1::LinkReply>> stream_;
  bool finished_ = false;
};

}  // namespace ccoe::services

#endif  // CCOE_TESTS_SERVICES_EXPERT_EXCHANGE_CLIENT_H_
