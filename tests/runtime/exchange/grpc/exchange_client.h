// SPDX-License-Identifier: Apache-2.0
// A raw client of the Exchange service, for tests that send what no link would.
#ifndef CCOE_TESTS_RUNTIME_EXCHANGE_GRPC_EXCHANGE_CLIENT_H_
#define CCOE_TESTS_RUNTIME_EXCHANGE_GRPC_EXCHANGE_CLIENT_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/exchange/grpc/handshake.h"
#include "runtime/exchange/grpc/wire_messages.h"
#include "tests/runtime/exchange/swap_recorder.h"

namespace ccoe::exchange {

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
    LinkIdentity raw;
    raw.worker_id = "raw";
    raw.hidden_size = hidden_size;
    return MakeOpen(raw, kernels::DType::kF32, nullptr);
  }

  // An envelope of these swaps with as many zero rows as each says.
  static v1::LinkMessage Message(const std::vector<SwapHeader>& headers) {
    Envelope envelope;
    envelope.step_id = 5;
    for (const SwapHeader& header : headers) {
      const size_t values = static_cast<size_t>(header.rows() * header.format.hidden_size);
      Add(envelope, header, {RowBlock(std::vector<float>(values)), {}});
    }
    v1::LinkMessage message;
    ToWire(envelope, *message.mutable_envelope());
    return message;
  }
  // One sequence of two rows, all of them coming back.
  static v1::LinkMessage GoodSwap(uint64_t swap, int64_t hidden_size) {
    return Message({MakeHeader(swap, {{1, 0, 2, ReturnRows::kAll}}, hidden_size)});
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

}  // namespace ccoe::exchange

#endif  // CCOE_TESTS_RUNTIME_EXCHANGE_GRPC_EXCHANGE_CLIENT_H_
