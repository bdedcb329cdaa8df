// SPDX-License-Identifier: Apache-2.0
// What a round of swaps costs beside the computing: one small swap to each of 8 expert workers over
// TCP on this machine, until all have answered, as a MoE layer does for each token. The workers
// hand what came to a thread and answer from it.
//
// BM_Links: our links, with 1 and with 16 swaps in an envelope. BM_LinksAfterPause: one swap, after
// a second without any. BM_BareStreams: gRPC streams that carry one number each way and nothing
// else, by the callback API (1) and the synchronous one (0): no link over that API can be faster.
// Compare the first line with BM_BareStreams/1. All is in one process: its threads are shared by
// both ends.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "benchmark/benchmark.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/base/check.h"
#include "runtime/exchange/grpc/exchange_service.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "runtime/exchange/grpc/link_thread.h"

namespace ccoe::exchange {
namespace {

constexpr int kWorkers = 8;
constexpr int64_t kHidden = 64;

// Answers each swap with its rows.
class Echo final : public SwapHandler {
 public:
  void HandleEnvelope(uint64_t, Envelope envelope, SwapCallback done) override {
    lane_.Run([envelope = std::move(envelope), done = std::move(done)]() mutable {
      for (const Swap& swap : envelope.swaps) {
        SwapResult result;
        result.rows.assign(swap.rows.block.host().begin(), swap.rows.block.host().end());
        done(swap.header.id, std::move(result));
      }
    });
  }
  void HandleCancel(uint64_t, const std::vector<uint64_t>&) override {}
  void HandleRelease(uint64_t, uint64_t) override {}
  uint64_t AddPeer() override { return 1; }
  void RemovePeer(uint64_t) override {}
  HostProgress Progress() const override { return {}; }
  int64_t hidden_size() const override { return kHidden; }
  std::string numerics() const override { return "echo"; }

 private:
  LinkThread lane_;  // computes
};

// Reads a number, hands it to its lane, and writes it back.
class SyncEcho final : public v1::Exchange::Service {
 public:
  grpc::Status Open(grpc::ServerContext*,
                    grpc::ServerReaderWriter<v1::LinkReply, v1::LinkMessage>* stream) override {
    LinkThread lane;
    v1::LinkMessage message;
    while (stream->Read(&message)) {
      lane.Run([stream, number = message.heartbeat().number()] {
        v1::LinkReply reply;
        reply.mutable_heartbeat()->set_number(number);
        stream->Write(reply);
      });
    }
    return grpc::Status::OK;
  }
};

class CallbackEcho final : public v1::Exchange::CallbackService {
 public:
  grpc::ServerBidiReactor<v1::LinkMessage, v1::LinkReply>* Open(
      grpc::CallbackServerContext*) override {
    return new Call;
  }

 private:
  class Call final : public grpc::ServerBidiReactor<v1::LinkMessage, v1::LinkReply> {
   public:
    Call() { StartRead(&message_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      reply_.mutable_heartbeat()->set_number(message_.heartbeat().number());
      lane_.Run([this] { StartWrite(&reply_); });
    }
    void OnWriteDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      StartRead(&message_);
    }
    void OnDone() override {
      std::thread([this] { delete this; }).detach();  // not on a thread of gRPC's: it joins
    }

   private:
    LinkThread lane_;  // computes
    v1::LinkMessage message_;
    v1::LinkReply reply_;
  };
};

// The workers, each with a server of its own.
class Workers {
 public:
  explicit Workers(const std::vector<std::unique_ptr<grpc::Service>>& services) {
    for (const auto& service : services) {
      int port = 0;
      grpc::ServerBuilder builder;
      builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
      builder.RegisterService(service.get());
      servers_.push_back(builder.BuildAndStart());
      CCOE_CHECK(servers_.back() != nullptr);
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
      channels_.push_back(grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port),
                                                    grpc::InsecureChannelCredentials(), arguments));
    }
  }
  ~Workers() {
    for (const auto& server : servers_) server->Shutdown(std::chrono::system_clock::now());
  }
  const std::vector<std::shared_ptr<grpc::Channel>>& channels() const { return channels_; }

 private:
  std::vector<std::unique_ptr<grpc::Server>> servers_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
};

// Our links to the workers.
class Links {
 public:
  Links() {
    for (int i = 0; i < kWorkers; ++i) {
      handlers_.push_back(std::make_unique<Echo>());
      services_.push_back(
          std::make_unique<ExchangeService>(handlers_.back().get(), ExchangeServiceOptions()));
    }
    workers_.emplace(services_);
    for (const auto& channel : workers_->channels()) {
      GrpcLinkOptions options;
      options.identity.worker_id = "benchmark";
      options.identity.hidden_size = kHidden;
      links_.push_back(*OpenGrpcLink(channel, options));
    }
  }

  // An envelope of `swaps` to each worker, and all answers.
  void Round(int swaps) {
    absl::BlockingCounter left(kWorkers * swaps);
    for (const auto& link : links_) {
      Envelope envelope;
      envelope.step_id = id_ + 1;
      for (int i = 0; i < swaps; ++i) {
        FfnSwap ffn;
        ffn.layer = 1;
        ffn.experts = {0};
        ffn.weights = {1.0f};
        ffn.offsets = {0, 1};
        SwapHeader header;
        header.id = ++id_;
        header.format.hidden_size = kHidden;
        header.work = std::move(ffn);
        envelope.swaps.push_back({std::move(header), {rows_, {}}});
      }
      link->Send(std::move(envelope), [&left](uint64_t, absl::StatusOr<SwapResult> result) {
        CCOE_CHECK(result.ok());
        left.DecrementCount();
      });
    }
    left.Wait();
  }

 private:
  const RowBlock rows_{std::vector<float>(static_cast<size_t>(kHidden), 1.0f)};
  uint64_t id_ = 0;
  std::vector<std::unique_ptr<Echo>> handlers_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::optional<Workers> workers_;
  std::vector<std::unique_ptr<ActivationLink>> links_;
};

void BM_Links(benchmark::State& state) {
  Links links;
  for (auto _ : state) links.Round(static_cast<int>(state.range(0)));
}
BENCHMARK(BM_Links)->Arg(1)->Arg(16)->UseRealTime();

void BM_LinksAfterPause(benchmark::State& state) {
  Links links;
  for (auto _ : state) {
    absl::SleepFor(absl::Milliseconds(1000 + 10 * (state.iterations() % 20)));
    const absl::Time begin = absl::Now();
    links.Round(1);
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
    state.SetIterationTime(seconds);
    double& longest = state.counters["longest_ms"];
    longest = std::max(longest, seconds * 1e3);
  }
}
BENCHMARK(BM_LinksAfterPause)->Iterations(30)->UseManualTime();

// One stream, and a thread that reads it.
class SyncStream {
 public:
  SyncStream(const std::shared_ptr<grpc::Channel>& channel, absl::AnyInvocable<void()> answered)
      : stub_(v1::Exchange::NewStub(channel)),
        stream_(stub_->Open(&context_)),
        answered_(std::move(answered)) {
    reader_ = std::thread([this] {
      v1::LinkReply reply;
      while (stream_->Read(&reply)) answered_();
    });
  }
  ~SyncStream() {
    context_.TryCancel();
    reader_.join();
    stream_->Finish();
  }
  void Send(uint64_t number) {
    v1::LinkMessage message;
    message.mutable_heartbeat()->set_number(number);
    stream_->Write(message);
  }

 private:
  const std::unique_ptr<v1::Exchange::Stub> stub_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReaderWriter<v1::LinkMessage, v1::LinkReply>> stream_;
  absl::AnyInvocable<void()> answered_;
  std::thread reader_;
};

class CallbackStream final : public grpc::ClientBidiReactor<v1::LinkMessage, v1::LinkReply> {
 public:
  CallbackStream(const std::shared_ptr<grpc::Channel>& channel, absl::AnyInvocable<void()> answered)
      : stub_(v1::Exchange::NewStub(channel)), answered_(std::move(answered)) {
    stub_->async()->Open(&context_, this);
    AddHold();
    StartRead(&reply_);
    StartCall();
  }
  ~CallbackStream() override {
    context_.TryCancel();
    RemoveHold();
    over_.WaitForNotification();
  }
  void Send(uint64_t number) {
    message_.mutable_heartbeat()->set_number(number);
    StartWrite(&message_);
  }
  // Answered once the message has left, so that the next one can be written.
  void OnReadDone(bool ok) override {
    if (!ok) return;
    StartRead(&reply_);
    Half();
  }
  void OnWriteDone(bool ok) override {
    if (ok) Half();
  }
  void OnDone(const grpc::Status&) override { over_.Notify(); }

 private:
  void Half() {
    if (halves_.fetch_xor(1) == 1) answered_();
  }

  const std::unique_ptr<v1::Exchange::Stub> stub_;
  grpc::ClientContext context_;
  absl::AnyInvocable<void()> answered_;
  std::atomic<int> halves_ = 0;
  v1::LinkMessage message_;
  v1::LinkReply reply_;
  absl::Notification over_;
};

template <typename Service, typename Stream>
void RunBare(benchmark::State& state) {
  std::vector<std::unique_ptr<grpc::Service>> services;
  for (int i = 0; i < kWorkers; ++i) services.push_back(std::make_unique<Service>());
  const Workers workers(services);
  absl::Mutex mutex;
  int left = 0;
  const auto none = [&] { return left == 0; };
  std::vector<std::unique_ptr<Stream>> streams;
  for (const auto& channel : workers.channels()) {
    streams.push_back(std::make_unique<Stream>(channel, [&] {
      absl::MutexLock lock(&mutex);
      --left;
    }));
  }
  uint64_t number = 0;
  for (auto _ : state) {
    {
      absl::MutexLock lock(&mutex);
      left = kWorkers;
    }
    ++number;
    for (const auto& stream : streams) stream->Send(number);
    absl::MutexLock lock(&mutex);
    mutex.Await(absl::Condition(&none));
  }
}

void BM_BareStreams(benchmark::State& state) {
  if (state.range(0) == 1) {
    RunBare<CallbackEcho, CallbackStream>(state);
  } else {
    RunBare<SyncEcho, SyncStream>(state);
  }
}
BENCHMARK(BM_BareStreams)->Arg(1)->Arg(0)->UseRealTime();

}  // namespace
}  // namespace ccoe::exchange

BENCHMARK_MAIN();
