// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/nccl/nccl_communicator.h"

#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/nccl/link_rounds.h"

namespace ccoe::exchange {
namespace {

constexpr size_t kPieceBytes = LinkRounds::kRoundBytes;

absl::Status CudaStatus(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string text =
      absl::StrCat(what, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
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

NcclCommunicator::~NcclCommunicator() {
  Revoke();
  // Aborted also where all is well: to end in good order both ends would have to agree on it.
  if (comm_ != nullptr) ncclCommAbort(comm_);
  for (const Staging& staging : {out_, in_}) {
    if (staging.device != nullptr) ncclMemFree(staging.device);
    if (staging.host != nullptr) cudaFreeHost(staging.host);
  }
  if (done_ != nullptr) cudaEventDestroy(done_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::Status NcclCommunicator::Take(Staging& staging) {
  void* host = nullptr;
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaMallocHost(&host, kPieceBytes), "pinned memory of a link"));
  staging.host = static_cast<char*>(host);
  return NcclStatus(ncclMemAlloc(&staging.device, kPieceBytes), "ncclMemAlloc");
}

absl::Status NcclCommunicator::Begin() {
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                                  "a stream for the link"));
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming),
                                  "an event for the link"));
  CCOE_RETURN_IF_ERROR(Take(out_));
  CCOE_RETURN_IF_ERROR(Take(in_));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.minCTAs = 1;
  config.maxCTAs = options_.max_ctas;
  const ncclResult_t started = ncclCommInitRankConfig(&comm_, 2, place_.id, place_.rank, &config);
  CCOE_RETURN_IF_ERROR(NcclStatus(started, "ncclCommInitRankConfig", comm_));
  state_ = State::kMeeting;
  return absl::OkStatus();
}

// All that a transfer may touch, since both ends' memory must be registered or neither's: rows go
// without a copy then where both GPUs are in one host. An abort takes the registrations along.
absl::Status NcclCommunicator::Register() {
  if (place_.memory == nullptr) return absl::OkStatus();
  void* handle = nullptr;
  for (void* piece : {out_.device, in_.device}) {
    CCOE_RETURN_IF_ERROR(NcclStatus(ncclCommRegister(comm_, piece, kPieceBytes, &handle),
                                    "ncclCommRegister of a piece", comm_));
  }
  return NcclStatus(ncclCommRegister(comm_, const_cast<void*>(place_.memory->data()),
                                     place_.memory->size_bytes(), &handle),
                    "ncclCommRegister of the rows' memory", comm_);
}

absl::Status NcclCommunicator::Group(const std::vector<Part>& sends,
                                     const std::vector<Part>& receives) {
  ncclResult_t result = ncclGroupStart();
  char* staged = static_cast<char*>(out_.device);
  for (const Part& part : sends) {
    const void* data = part.on_device ? part.data : staged;
    if (!part.on_device) staged += part.bytes;
    if (result == ncclSuccess) {
      result = ncclSend(data, part.bytes, ncclUint8, peer_, comm_, stream_);
    }
  }
  staged = static_cast<char*>(in_.device);
  for (const Part& part : receives) {
    void* data = part.on_device ? part.data : staged;
    if (!part.on_device) staged += part.bytes;
    if (result == ncclSuccess) {
      result = ncclRecv(data, part.bytes, ncclUint8, peer_, comm_, stream_);
    }
  }
  const ncclResult_t ended = ncclGroupEnd();
  CCOE_RETURN_IF_ERROR(NcclStatus(result, "a group of sends and receives", comm_));
  CCOE_RETURN_IF_ERROR(NcclStatus(ended, "ncclGroupEnd", comm_));
  state_ = State::kEnqueueing;
  return absl::OkStatus();
}

absl::Status NcclCommunicator::Post(const std::vector<Part>& sends,
                                    const std::vector<Part>& receives) {
  size_t staged = 0;
  for (const Part& part : sends) {
    if (part.on_device) continue;
    std::memcpy(out_.host + staged, part.data, part.bytes);
    staged += part.bytes;
  }
  if (staged > 0) {
    CCOE_RETURN_IF_ERROR(
        CudaStatus(cudaMemcpyAsync(out_.device, out_.host, staged, cudaMemcpyHostToDevice, stream_),
                   "rows to the device"));
  }
  received_.clear();
  for (const Part& part : receives) {
    if (!part.on_device) received_.push_back(part);
  }
  return Group(sends, receives);
}

absl::StatusOr<bool> NcclCommunicator::Poll() {
  absl::StatusOr<bool> moved = true;
  while (moved.ok() && *moved) {
    switch (state_) {
      case State::kIdle:
        return true;
      case State::kMeeting:
        moved = Met();
        break;
      case State::kEnqueueing:
        moved = Enqueued();
        break;
      case State::kTravelling:
        moved = Travelled();
        break;
      case State::kCopying:
        moved = Copied();
        break;
    }
  }
  return moved;
}

// The first bytes make the connections, which takes much longer than a transfer; both ends post the
// same group, so neither waits for the other's turn.
absl::StatusOr<bool> NcclCommunicator::Met() {
  const ncclResult_t state = StateOf(comm_);
  if (state == ncclInProgress) return false;
  CCOE_RETURN_IF_ERROR(NcclStatus(state, "making the communicator", comm_));
  CCOE_RETURN_IF_ERROR(Register());
  CCOE_RETURN_IF_ERROR(Group({{nullptr, 1, false}}, {{nullptr, 1, false}}));
  return true;
}

// A group that is in progress has not put its kernel on the stream yet.
absl::StatusOr<bool> NcclCommunicator::Enqueued() {
  const ncclResult_t state = StateOf(comm_);
  if (state == ncclInProgress) return false;
  CCOE_RETURN_IF_ERROR(NcclStatus(state, "the communicator", comm_));
  CCOE_RETURN_IF_ERROR(MarkEvent(State::kTravelling));
  return true;
}

absl::Status NcclCommunicator::MarkEvent(State next) {
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaEventRecord(done_, stream_), "an event behind the rows"));
  state_ = next;
  return absl::OkStatus();
}

absl::StatusOr<bool> NcclCommunicator::EventIsThere() {
  const cudaError_t event = cudaEventQuery(done_);
  if (event == cudaSuccess) return true;
  if (event != cudaErrorNotReady) return CudaStatus(event, "the link's stream");
  // A peer that died shows here over a network, and nowhere over NVLink: hence the patience.
  CCOE_RETURN_IF_ERROR(NcclStatus(StateOf(comm_), "the communicator", comm_));
  return false;
}

absl::StatusOr<bool> NcclCommunicator::Travelled() {
  CCOE_ASSIGN_OR_RETURN(const bool there, EventIsThere());
  if (!there) return false;
  size_t staged = 0;
  for (const Part& part : received_) staged += part.bytes;
  if (staged == 0) {
    state_ = State::kIdle;
    return true;
  }
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaMemcpyAsync(in_.host, in_.device, staged, cudaMemcpyDeviceToHost, stream_),
                 "rows from the device"));
  CCOE_RETURN_IF_ERROR(MarkEvent(State::kCopying));
  return true;
}

absl::StatusOr<bool> NcclCommunicator::Copied() {
  CCOE_ASSIGN_OR_RETURN(const bool there, EventIsThere());
  if (!there) return false;
  const char* from = in_.host;
  for (const Part& part : received_) {
    std::memcpy(part.data, from, part.bytes);
    from += part.bytes;
  }
  received_.clear();
  state_ = State::kIdle;
  return true;
}

void NcclCommunicator::Revoke() {
  if (comm_ == nullptr || std::exchange(revoked_, true)) return;
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 7)
  ncclCommRevoke(comm_, NCCL_REVOKE_DEFAULT);
#endif
}

bool NcclCommunicator::Revoked() { return comm_ == nullptr || StateOf(comm_) != ncclInProgress; }

}  // namespace ccoe::exchange
