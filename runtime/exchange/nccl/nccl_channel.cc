#include "runtime/exchange/nccl/nccl_channel.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"

namespace ccoe::exchange {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;
// Polled without a pause for as long as a small transfer takes, then with one.
constexpr int kEagerPolls = 200;
constexpr absl::Duration kPollPause = absl::Microseconds(10);
constexpr absl::Duration kRevokeTime = absl::Milliseconds(500);

absl::Status CudaStatus(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string text =
      absl::StrCat(what, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
}

void Pause(int& polls) {
  if (++polls > kEagerPolls) absl::SleepFor(kPollPause);
}

// What the communicator says of itself.
ncclResult_t StateOf(ncclComm_t comm) {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
  return asked == ncclSuccess ? state : asked;
}

}  // namespace

absl::Status NcclStatus(ncclResult_t result, absl::string_view what, ncclComm_t comm) {
  if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
  const char* detail = ncclGetLastError(comm);
  return absl::InternalError(absl::StrCat(what, ": ", ncclGetErrorString(result),
                                          detail == nullptr || *detail == '\0' ? "" : ": ",
                                          detail == nullptr ? "" : detail));
}

absl::StatusOr<std::unique_ptr<NcclChannel>> NcclChannel::Create(const Place& place,
                                                                 const NcclOptions& options,
                                                                 absl::Time deadline) {
  std::unique_ptr<NcclChannel> channel(new NcclChannel(place.rank, options));
  CCOE_RETURN_IF_ERROR(channel->Init(place, deadline));
  return channel;
}

absl::Status NcclChannel::Init(const Place& place, absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(options_.device), "choosing the device"));
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                                  "a stream for the link"));
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming),
                                  "an event for the link"));
  void* host = nullptr;
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaMallocHost(&host, kPieceBytes), "pinned memory of a link"));
  host_ = static_cast<char*>(host);
  CCOE_RETURN_IF_ERROR(NcclStatus(ncclMemAlloc(&device_, kPieceBytes), "ncclMemAlloc"));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.minCTAs = 1;
  config.maxCTAs = options_.max_ctas;
  const ncclResult_t started = ncclCommInitRankConfig(&comm_, 2, place.id, 1 - peer_, &config);
  CCOE_RETURN_IF_ERROR(NcclStatus(started, "ncclCommInitRankConfig", comm_));
  CCOE_RETURN_IF_ERROR(AwaitEnqueued(deadline));
  return place.memory == nullptr ? absl::OkStatus() : Register(place.memory);
}

// All that a transfer may touch, since both ends' memory must be registered or neither's: rows go
// without a copy then where both GPUs are in one host. An abort takes the registrations along.
absl::Status NcclChannel::Register(const RowMemory* memory) {
  void* handle = nullptr;
  CCOE_RETURN_IF_ERROR(NcclStatus(ncclCommRegister(comm_, device_, kPieceBytes, &handle),
                                  "ncclCommRegister of a piece", comm_));
  return NcclStatus(
      ncclCommRegister(comm_, const_cast<void*>(memory->data()), memory->size_bytes(), &handle),
      "ncclCommRegister of the rows' memory", comm_);
}

NcclChannel::~NcclChannel() {
  Stop();
  Revoke();
  absl::MutexLock lock(&mutex_);
  cudaSetDevice(options_.device);
  // Aborted also where all is well: to end in good order both ends would have to agree on it.
  if (comm_ != nullptr) ncclCommAbort(comm_);
  if (device_ != nullptr) ncclMemFree(device_);
  if (host_ != nullptr) cudaFreeHost(host_);
  if (done_ != nullptr) cudaEventDestroy(done_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void NcclChannel::Revoke() {
  absl::MutexLock lock(&mutex_);
  if (comm_ == nullptr || revoked_) return;
  revoked_ = true;
  broken_ = true;
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 7)
  cudaSetDevice(options_.device);
  ncclCommRevoke(comm_, NCCL_REVOKE_DEFAULT);
  const absl::Time deadline = absl::Now() + kRevokeTime;
  int polls = 0;
  while (StateOf(comm_) == ncclInProgress && absl::Now() < deadline) Pause(polls);
#endif
}

absl::Status NcclChannel::Usable() {
  if (broken_ || stopping_.load()) return absl::UnavailableError("the link's communicator is gone");
  return CudaStatus(cudaSetDevice(options_.device), "choosing the device");
}

absl::Status NcclChannel::Send(absl::string_view bytes, absl::Duration patience) {
  absl::MutexLock lock(&mutex_);
  CCOE_RETURN_IF_ERROR(Usable());
  for (size_t begin = 0; begin < bytes.size(); begin += kPieceBytes) {
    const size_t count = std::min(kPieceBytes, bytes.size() - begin);
    std::memcpy(host_, bytes.data() + begin, count);
    const auto send = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      CCOE_RETURN_IF_ERROR(
          CudaStatus(cudaMemcpyAsync(device_, host_, count, cudaMemcpyHostToDevice, stream_),
                     "rows to the device"));
      return NcclStatus(ncclSend(device_, count, ncclUint8, peer_, comm_, stream_), "ncclSend",
                        comm_);
    };
    CCOE_RETURN_IF_ERROR(Annotate(RunPiece(send, patience), "sending rows"));
  }
  return absl::OkStatus();
}

absl::Status NcclChannel::Receive(std::string& bytes, absl::Duration patience) {
  absl::MutexLock lock(&mutex_);
  CCOE_RETURN_IF_ERROR(Usable());
  for (size_t begin = 0; begin < bytes.size(); begin += kPieceBytes) {
    const size_t count = std::min(kPieceBytes, bytes.size() - begin);
    const auto receive = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return NcclStatus(ncclRecv(device_, count, ncclUint8, peer_, comm_, stream_), "ncclRecv",
                        comm_);
    };
    CCOE_RETURN_IF_ERROR(Annotate(RunPiece(receive, patience), "receiving rows"));
    // The rows are there: this copy waits for nothing of NCCL's.
    const auto copy = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return CudaStatus(cudaMemcpyAsync(host_, device_, count, cudaMemcpyDeviceToHost, stream_),
                        "rows from the device");
    };
    CCOE_RETURN_IF_ERROR(Annotate(RunPiece(copy, patience), "receiving rows"));
    std::memcpy(bytes.data() + begin, host_, count);
  }
  return absl::OkStatus();
}

absl::Status NcclChannel::RunPieces(const RowBlock& rows, void* data, absl::Duration patience,
                                    Piece piece) {
  const size_t bytes = rows.bytes();
  for (size_t begin = 0; begin < bytes; begin += kPieceBytes) {
    const size_t count = std::min(kPieceBytes, bytes - begin);
    const absl::Status done = RunPiece(
        [&] {
          return NcclStatus(piece(static_cast<char*>(data) + begin, count), "rows of the device");
        },
        patience);
    if (done.ok()) continue;
    broken_rows_ = rows;
    return done;
  }
  return absl::OkStatus();
}

absl::Status NcclChannel::SendRows(const RowBlock& rows, absl::Duration patience) {
  absl::MutexLock lock(&mutex_);
  CCOE_RETURN_IF_ERROR(Usable());
  const auto send = [&](char* data, size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ncclSend(data, bytes, ncclUint8, peer_, comm_, stream_);
  };
  return Annotate(RunPieces(rows, const_cast<void*>(rows.view().data), patience, send),
                  "sending rows");
}

absl::Status NcclChannel::ReceiveRows(const RowMemory::Fresh& rows, absl::Duration patience) {
  absl::MutexLock lock(&mutex_);
  CCOE_RETURN_IF_ERROR(Usable());
  const auto receive = [&](char* data, size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ncclRecv(data, bytes, ncclUint8, peer_, comm_, stream_);
  };
  return Annotate(RunPieces(rows.block, rows.rows.data, patience, receive), "receiving rows");
}

absl::Status NcclChannel::RunPiece(absl::FunctionRef<absl::Status()> enqueue,
                                   absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  absl::Status status = enqueue();
  // A call that is in progress has not put its kernel on the stream yet.
  if (status.ok()) status = AwaitEnqueued(deadline);
  if (status.ok()) status = CudaStatus(cudaEventRecord(done_, stream_), "an event behind the rows");
  if (status.ok()) status = AwaitEvent(deadline);
  if (status.ok()) return status;
  broken_ = true;
  return absl::UnavailableError(status.message());
}

absl::Status NcclChannel::AwaitEnqueued(absl::Time deadline) {
  int polls = 0;
  while (true) {
    const ncclResult_t state = StateOf(comm_);
    if (state != ncclInProgress) return NcclStatus(state, "the communicator", comm_);
    CCOE_RETURN_IF_ERROR(CheckGoing(deadline));
    Pause(polls);
  }
}

absl::Status NcclChannel::AwaitEvent(absl::Time deadline) {
  int polls = 0;
  while (true) {
    const cudaError_t state = cudaEventQuery(done_);
    if (state == cudaSuccess) return absl::OkStatus();
    if (state != cudaErrorNotReady) return CudaStatus(state, "the link's stream");
    // A peer that died shows here over a network, and nowhere over NVLink: hence the deadline.
    CCOE_RETURN_IF_ERROR(NcclStatus(StateOf(comm_), "the communicator", comm_));
    CCOE_RETURN_IF_ERROR(CheckGoing(deadline));
    Pause(polls);
  }
}

absl::Status NcclChannel::CheckGoing(absl::Time deadline) const {
  if (stopping_.load()) return absl::UnavailableError("the link is closed");
  if (absl::Now() < deadline) return absl::OkStatus();
  return absl::DeadlineExceededError("the peer's rank does not take part");
}

}  // namespace ccoe::exchange
