// SPDX-License-Identifier: Apache-2.0
// NCCL between two processes on one GPU: the conformance suite of links, and the sudden end of one
// process. Skips where there is no GPU.
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_ops.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/grpc/exchange_service.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "runtime/exchange/nccl/nccl_carriers.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/runtime/exchange/link_conformance.h"
#include "tests/runtime/exchange/nccl/rank_process.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;

constexpr absl::Duration kConnectTime = absl::Seconds(30);

// Null where there is none.
kernels::Device* Gpu() {
  static kernels::Device* const gpu = [] {
    auto opened = kernels::OpenCudaDevice(0);
    return opened.ok() ? opened->release() : nullptr;
  }();
  return gpu;
}

// The opening end's, of this process.
RowCarrierFactory* Carriers() {
  static RowCarrierFactory* const carriers = [] {
    NcclOptions options;
    options.memory_device = Gpu();
    auto made = MakeNcclCarriers(options);
    EXPECT_OK(made.status());
    return made.ok() ? made->release() : nullptr;
  }();
  return carriers;
}

class NcclWorker final : public LinkWorker {
 public:
  NcclWorker(SwapHandler* handler, const LinkSetup& setup)
      : service_(handler, Options(setup)), server_(&service_) {}

  std::unique_ptr<ActivationLink> Connect(const LinkSetup& setup) override {
    GrpcLinkOptions options;
    options.identity.hidden_size = setup.hidden_size;
    options.use.limits = setup.limits;
    options.backlog = setup.backlog;
    options.carriers = Carriers();
    options.require_carrier = true;
    options.open_timeout = kConnectTime;
    auto link = OpenGrpcLink(server_.TcpChannel(), options);
    EXPECT_OK(link.status());
    return link.ok() ? *std::move(link) : nullptr;
  }

 private:
  ExchangeServiceOptions Options(const LinkSetup& setup) {
    ExchangeServiceOptions options;
    options.link.identity.worker_id = "expert-1";
    options.link.grant = {setup.credit, setup.limits};
    options.link.carriers = &ranks_;
    return options;
  }

  RankProcesses ranks_{Carriers()->Version()};
  ExchangeService service_;
  ExchangeServer server_;
};

LinkTransport Nccl() {
  LinkTransport transport;
  transport.name = "TwoProcesses";
  transport.start = [](SwapHandler* handler, const LinkSetup& setup) {
    return std::make_unique<NcclWorker>(handler, setup);
  };
  transport.device = Gpu();
  transport.handler_on_device = false;
  return transport;
}

INSTANTIATE_TEST_SUITE_P(Nccl, LinkConformanceTest, ::testing::Values(Nccl()),
                         [](const auto& info) { return info.param.name; });

// Both ends, connected: what one says goes to the other.
struct Ends {
  std::unique_ptr<RankProcess> process;
  std::unique_ptr<RowCarrier> here, there;
};

absl::StatusOr<std::unique_ptr<Ends>> Connect() {
  auto ends = std::make_unique<Ends>();
  CCOE_ASSIGN_OR_RETURN(ends->process, RankProcess::Start());
  absl::StatusOr<std::unique_ptr<RowCarrier>> there = absl::UnknownError("");
  std::thread accepting([&, raw = ends.get()] {
    there = raw->process->Connect([raw](const RowCarrier::Note& note) { raw->here->Take(note); });
  });
  auto here = Carriers()->Connect(
      ends->process->id(), /*opener=*/true, kConnectTime,
      [raw = ends.get()](const RowCarrier::Note& note) { raw->there->Take(note); });
  accepting.join();
  CCOE_ASSIGN_OR_RETURN(ends->here, std::move(here));
  CCOE_ASSIGN_OR_RETURN(ends->there, std::move(there));
  return ends;
}

std::string Bytes(size_t size, int seed) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<char>(i * 31 + static_cast<size_t>(seed));
  return bytes;
}

// What became of a transfer.
struct Outcome {
  absl::Notification over;
  absl::StatusOr<CarriedRows> rows = absl::UnknownError("");

  RowCarrier::Done Keep() {
    return [this](absl::StatusOr<CarriedRows> result) {
      rows = std::move(result);
      over.Notify();
    };
  }
  absl::Status Await() {
    over.WaitForNotification();
    return rows.status();
  }
};

TEST(NcclCarrierTest, BothDirectionsCarryAtOnceWhateverTheSize) {
  ASSERT_OK_AND_ASSIGN(const auto ends, Connect());
  for (const size_t size : {size_t{1}, size_t{8192}, size_t{4} << 20, (size_t{9} << 20) + 3}) {
    const std::string out = Bytes(size, 1), back = Bytes(size, 2);
    Outcome sent, returned, at_there, at_here;
    ends->there->Receive(CarriedRows(std::string(size, '\0')), at_there.Keep());
    ends->here->Receive(CarriedRows(std::string(size, '\0')), at_here.Keep());
    ends->here->Send(CarriedRows(out), sent.Keep());
    ends->there->Send(CarriedRows(back), returned.Keep());
    EXPECT_OK(sent.Await());
    EXPECT_OK(returned.Await());
    ASSERT_OK(at_there.Await());
    ASSERT_OK(at_here.Await());
    EXPECT_TRUE(at_there.rows->bytes == out) << size;
    EXPECT_TRUE(at_here.rows->bytes == back) << size;
  }
}

TEST(NcclCarrierTest, AnAbortEndsWhatAKilledRankLeavesAndAFreshOneServes) {
  ASSERT_OK_AND_ASSIGN(auto ends, Connect());
  Outcome waiting, late, arrived;
  const std::string rows = Bytes(1 << 20, 3);
  ends->here->Send(CarriedRows(rows), waiting.Keep());  // posted: the kernel runs
  ends->process->Kill();
  const absl::Time killed = absl::Now();
  ends->here->Abort();  // as a link does whose stream has ended
  EXPECT_THAT(waiting.Await(), StatusIs(absl::StatusCode::kUnavailable));
  ends->here->Send(CarriedRows(rows), late.Keep());
  EXPECT_THAT(late.Await(), StatusIs(absl::StatusCode::kUnavailable));
  ends->here.reset();
  std::printf("a killed rank: communicator gone after %.0f ms\n",
              absl::ToDoubleMilliseconds(absl::Now() - killed));
  ASSERT_OK_AND_ASSIGN(const auto fresh, Connect());
  fresh->there->Receive(CarriedRows(std::string(rows.size(), 'x')), arrived.Keep());
  fresh->here->Send(CarriedRows(rows), [](absl::StatusOr<CarriedRows>) {});
  ASSERT_OK(arrived.Await());
  EXPECT_TRUE(arrived.rows->bytes == rows);
}

TEST(NcclCarrierTest, AnIdThatIsNoneIsRefused) {
  EXPECT_THAT(
      Carriers()->Connect("x", true, absl::Seconds(1), [](const RowCarrier::Note&) {}).status(),
      StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace ccoe::exchange

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], ccoe::exchange::kRankArgument) == 0) {
    return ccoe::exchange::RunRank();
  }
  ::testing::InitGoogleTest(&argc, argv);
  if (ccoe::kernels::CudaDeviceCount() == 0) {
    std::printf("SKIPPED: no CUDA device\n");
    return 0;
  }
  return RUN_ALL_TESTS();
}
