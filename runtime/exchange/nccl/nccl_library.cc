// SPDX-License-Identifier: Apache-2.0
// The functions of NCCL that links use, each of which calls the library's own. Names and meanings
// are nccl.h's. Another one is a function here.
#include "runtime/exchange/nccl/nccl_library.h"

#include <nccl.h>

#include "kernels/cuda/dynamic/dynamic_library.h"

using ::ccoe::kernels::CallIn;
using ::ccoe::kernels::DynamicLibrary;

namespace {

// But for ncclCommRevoke, without which a broken link ends later.
constexpr const char* kNeeded[] = {"ncclCommAbort",
                                   "ncclCommGetAsyncError",
                                   "ncclCommInitRankConfig",
                                   "ncclCommRegister",
                                   "ncclGetErrorString",
                                   "ncclGetLastError",
                                   "ncclGetUniqueId",
                                   "ncclGetVersion",
                                   "ncclGroupEnd",
                                   "ncclGroupStart",
                                   "ncclMemAlloc",
                                   "ncclMemFree",
                                   "ncclRecv",
                                   "ncclSend"};

// Opened once for the process, and never closed.
const DynamicLibrary& Library() {
  static const auto* const library = new DynamicLibrary("NCCL", "libnccl.so.2", kNeeded);
  return *library;
}

const char* MissingText() { return "NCCL cannot be used"; }

}  // namespace

absl::Status ccoe::exchange::OpenNccl() { return Library().status(); }

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  return CallIn<&ncclCommAbort>(Library(), "ncclCommAbort", ncclSystemError, comm);
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* async_error) {
  return CallIn<&ncclCommGetAsyncError>(Library(), "ncclCommGetAsyncError", ncclSystemError, comm,
                                        async_error);
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId comm_id, int rank,
                                    ncclConfig_t* config) {
  return CallIn<&ncclCommInitRankConfig>(Library(), "ncclCommInitRankConfig", ncclSystemError, comm,
                                         nranks, comm_id, rank, config);
}
ncclResult_t ncclCommRegister(const ncclComm_t comm, void* buff, size_t size, void** handle) {
  return CallIn<&ncclCommRegister>(Library(), "ncclCommRegister", ncclSystemError, comm, buff, size,
                                   handle);
}
ncclResult_t ncclCommRevoke(ncclComm_t comm, int revoke_flags) {
  return CallIn<&ncclCommRevoke>(Library(), "ncclCommRevoke", ncclSystemError, comm, revoke_flags);
}
const char* ncclGetErrorString(ncclResult_t result) {
  return CallIn<&ncclGetErrorString>(Library(), "ncclGetErrorString", MissingText(), result);
}
const char* ncclGetLastError(ncclComm_t comm) {
  return CallIn<&ncclGetLastError>(Library(), "ncclGetLastError", MissingText(), comm);
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* unique_id) {
  return CallIn<&ncclGetUniqueId>(Library(), "ncclGetUniqueId", ncclSystemError, unique_id);
}
ncclResult_t ncclGetVersion(int* version) {
  return CallIn<&ncclGetVersion>(Library(), "ncclGetVersion", ncclSystemError, version);
}
ncclResult_t ncclGroupEnd() {
  return CallIn<&ncclGroupEnd>(Library(), "ncclGroupEnd", ncclSystemError);
}
ncclResult_t ncclGroupStart() {
  return CallIn<&ncclGroupStart>(Library(), "ncclGroupStart", ncclSystemError);
}
ncclResult_t ncclMemAlloc(void** ptr, size_t size) {
  return CallIn<&ncclMemAlloc>(Library(), "ncclMemAlloc", ncclSystemError, ptr, size);
}
ncclResult_t ncclMemFree(void* ptr) {
  return CallIn<&ncclMemFree>(Library(), "ncclMemFree", ncclSystemError, ptr);
}
ncclResult_t ncclRecv(void* recvbuff, size_t count, ncclDataType_t datatype, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return CallIn<&ncclRecv>(Library(), "ncclRecv", ncclSystemError, recvbuff, count, datatype, peer,
                           comm, stream);
}
ncclResult_t ncclSend(const void* sendbuff, size_t count, ncclDataType_t datatype, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return CallIn<&ncclSend>(Library(), "ncclSend", ncclSystemError, sendbuff, count, datatype, peer,
                           comm, stream);
}
