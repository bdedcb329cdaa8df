// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/cuda/cuda_status.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/nccl/nccl_library.h"
#include "tools/gpu_probe/probe.h"
#include "tools/gpu_probe/ranks.h"

namespace ccoe::probe {
namespace {

constexpr absl::Duration kMeeting = absl::Seconds(10);  // to find each other
constexpr absl::Duration kTransfer = absl::Seconds(5);
constexpr absl::Duration kPoll = absl::Milliseconds(1);

absl::Status Checked(ncclResult_t result, const char* what) {
  if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
  const char* detail = ncclGetLastError(nullptr);
  return absl::InternalError(
      absl::StrCat(what, ": ", ncclGetErrorString(result), ": ", detail == nullptr ? "" : detail));
}

// A communicator of two ranks. Nothing waits without a deadline: NCCL itself would for ever.
class Rank {
 public:
  explicit Rank(int rank) : peer_(1 - rank) {}
  ~Rank() {
    if (comm_ != nullptr) ncclCommAbort(comm_);
  }

  absl::Status Meet(const ncclUniqueId& id) {
    CCOE_RETURN_IF_ERROR(kernels::CudaStatus(cudaSetDevice(0), "cuda:0"));
    CCOE_RETURN_IF_ERROR(kernels::CudaStatus(
        cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream"));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.minCTAs = 1;
    config.maxCTAs = 2;
    CCOE_RETURN_IF_ERROR(Checked(ncclCommInitRankConfig(&comm_, 2, id, 1 - peer_, &config),
                                 "ncclCommInitRankConfig"));
    return AwaitComm(absl::Now() + kMeeting);
  }

  // Seconds of rows there and back, together.
  absl::StatusOr<double> Exchange(void* out, void* in, size_t bytes) {
    const absl::Time begin = absl::Now(), deadline = begin + kTransfer;
    CCOE_RETURN_IF_ERROR(Checked(ncclGroupStart(), "ncclGroupStart"));
    CCOE_RETURN_IF_ERROR(Checked(ncclSend(out, bytes, ncclUint8, peer_, comm_, stream_), "send"));
    CCOE_RETURN_IF_ERROR(Checked(ncclRecv(in, bytes, ncclUint8, peer_, comm_, stream_), "receive"));
    CCOE_RETURN_IF_ERROR(Checked(ncclGroupEnd(), "ncclGroupEnd"));
    CCOE_RETURN_IF_ERROR(AwaitComm(deadline));
    while (cudaStreamQuery(stream_) == cudaErrorNotReady) {
      if (absl::Now() > deadline) return absl::DeadlineExceededError("rows did not come through");
    }
    CCOE_RETURN_IF_ERROR(kernels::CudaStatus(cudaStreamSynchronize(stream_), "rows"));
    return absl::ToDoubleSeconds(absl::Now() - begin);
  }

 private:
  absl::Status AwaitComm(absl::Time deadline) {
    while (true) {
      ncclResult_t state = ncclSuccess;
      CCOE_RETURN_IF_ERROR(Checked(ncclCommGetAsyncError(comm_, &state), "the communicator"));
      if (state != ncclInProgress) return Checked(state, "the communicator");
      if (absl::Now() > deadline) return absl::DeadlineExceededError("the other rank did not come");
      absl::SleepFor(kPoll);
    }
  }

  const int peer_;
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

absl::Status Measure(Probe& probe, int rank, const ncclUniqueId& id) {
  CCOE_RETURN_IF_ERROR(exchange::OpenNccl());
  CCOE_ASSIGN_OR_RETURN(kernels::Device* const device, probe.Device());
  Rank link(rank);
  CCOE_RETURN_IF_ERROR(link.Meet(id));
  for (const size_t bytes : {size_t{8} << 10, size_t{128} << 10, size_t{1} << 20}) {
    CCOE_ASSIGN_OR_RETURN(const kernels::Buffer out, device->Allocate(bytes));
    CCOE_ASSIGN_OR_RETURN(const kernels::Buffer in, device->Allocate(bytes));
    const std::string sent(bytes, static_cast<char>('a' + rank));
    CCOE_RETURN_IF_ERROR(device->CopyFromHost(sent.data(), out.data(), bytes));
    double best = 1e30;
    for (int i = 0; i < 20; ++i) {
      CCOE_ASSIGN_OR_RETURN(const double seconds, link.Exchange(out.data(), in.data(), bytes));
      best = std::min(best, seconds);
    }
    std::string received(bytes, '\0');
    CCOE_RETURN_IF_ERROR(device->CopyToHost(in.data(), received.data(), bytes));
    const bool right = received == std::string(bytes, static_cast<char>('a' + 1 - rank));
    probe.Say({{"rank", rank}, {"bytes", bytes}, {"us", 1e6 * best}, {"ok", right}});
  }
  return absl::OkStatus();
}

absl::Status StartRank(int rank, const std::string& id, pid_t& child) {
  // Two processes of one GPU pass for two hosts: docs/gpu.md.
  setenv("NCCL_HOSTID", rank == 0 ? "probe-a" : "probe-b", 1);
  setenv("NCCL_SOCKET_IFNAME", "lo", 0);
  setenv("NCCL_IB_DISABLE", "1", 0);
  setenv("NCCL_NVLS_ENABLE", "0", 0);
  std::vector<std::string> words = {"gpu_probe", "--rank", absl::StrCat(rank, ":", id)};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const int error =
      posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, arguments.data(), environ);
  return error == 0 ? absl::OkStatus() : absl::InternalError(strerror(error));
}

}  // namespace

int RunRank(const std::string& text) {
  Probe probe("ranks", {});
  ncclUniqueId id;
  int rank = 0;
  const std::string bytes = absl::HexStringToBytes(text.substr(std::min<size_t>(2, text.size())));
  if (!absl::SimpleAtoi(text.substr(0, 1), &rank) || bytes.size() != sizeof(id)) return 2;
  std::memcpy(&id, bytes.data(), sizeof(id));
  const absl::Status status = Measure(probe, rank, id);
  // NCCL does not support this: that it fails is a finding, not a defect.
  if (!status.ok()) probe.Say({{"rank", rank}, {"finding", status.ToString()}});
  return probe.failed() ? 1 : 0;
}

absl::Status RunRanks(Probe& probe) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    return absl::NotFoundError("no CUDA device");
  }
  if (const absl::Status opened = exchange::OpenNccl(); !opened.ok()) {
    return absl::NotFoundError(opened.message());
  }
  setenv("NCCL_SOCKET_IFNAME", "lo", 0);
  ncclUniqueId id;
  CCOE_RETURN_IF_ERROR(Checked(ncclGetUniqueId(&id), "ncclGetUniqueId"));
  const std::string hex =
      absl::BytesToHexString(std::string(reinterpret_cast<const char*>(&id), sizeof(id)));
  pid_t ranks[2] = {};
  for (int rank : {0, 1}) CCOE_RETURN_IF_ERROR(StartRank(rank, hex, ranks[rank]));
  for (const pid_t rank : ranks) {
    int status = 0;
    if (waitpid(rank, &status, 0) != rank || !WIFEXITED(status)) {
      probe.Say({{"finding", "a rank died"}});
    } else if (WEXITSTATUS(status) != 0) {
      probe.Fail("a rank", "rows came through wrong");
    }
  }
  return absl::OkStatus();
}

Line DescribeLibraries() {
  int version = 0;
  const absl::Status opened = exchange::OpenNccl();
  if (!opened.ok()) return {{"nccl", std::string(opened.message())}};
  if (ncclGetVersion(&version) != ncclSuccess) return {{"nccl", "gives no version"}};
  return {{"nccl", version}};
}

}  // namespace ccoe::probe
