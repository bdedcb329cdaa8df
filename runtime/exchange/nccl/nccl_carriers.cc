// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/nccl/nccl_carriers.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "absl/base/const_init.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/nccl/device_thread.h"
#include "runtime/exchange/nccl/link_slots.h"
#include "runtime/exchange/nccl/nccl_communicator.h"
#include "runtime/exchange/nccl/nccl_library.h"

namespace ccoe::exchange {
namespace {

constexpr int kOldestVersion = NCCL_VERSION(2, 28, 0);

// What travels as a carrier's id, with a number that tells this worker's carriers apart in
// messages.
struct LinkId {
  ncclUniqueId nccl;
  uint64_t epoch;
};

std::string VersionText(int code) {
  return absl::StrCat("nccl ", code / 10000, ".", code / 100 % 100, ".", code % 100);
}

// Memory of a GPU from NCCL's own allocator, as registered memory must be. For nothing else.
class NcclMemory final : public kernels::Device {
 public:
  explicit NcclMemory(int device) : device_(device) {}

  // Lives for good: rows may outlive their carriers.
  static NcclMemory* Of(int device) {
    static absl::Mutex mutex(absl::kConstInit);
    static auto* const all = new std::map<int, NcclMemory>();
    absl::MutexLock lock(&mutex);
    return &all->try_emplace(device, device).first->second;
  }

  std::string Name() const override { return absl::StrCat("nccl memory of cuda:", device_); }
  bool ReadsHostMemory() const override { return false; }

  absl::StatusOr<kernels::Buffer> Allocate(size_t size_bytes) override {
    const std::string what = absl::StrCat(Name(), ": ncclMemAlloc of ", size_bytes, " bytes");
    if (cudaSetDevice(device_) != cudaSuccess) return absl::InternalError(what);
    void* data = nullptr;
    CCOE_RETURN_IF_ERROR(NcclStatus(ncclMemAlloc(&data, size_bytes), what));
    return kernels::Buffer(this, data, size_bytes);
  }
  absl::Status CopyFromHost(const void*, void*, size_t) override { return NoCopies(); }
  absl::Status CopyToHost(const void*, void*, size_t) override { return NoCopies(); }

 private:
  absl::Status NoCopies() const {
    return absl::FailedPreconditionError(absl::StrCat(Name(), " makes no copies: its GPU does"));
  }
  void Free(void* data, size_t) override {
    cudaSetDevice(device_);
    ncclMemFree(data);
  }

  const int device_;
};

class NcclCarriers final : public RowCarrierFactory {
 public:
  NcclCarriers(const NcclOptions& options, int version, std::shared_ptr<RowMemory> memory)
      : options_(options),
        version_(version),
        memory_(std::move(memory)),
        slots_(std::make_shared<LinkSlots>(options.max_links)),
        thread_({options.patience, options.clock,
                 [device = options.device] { cudaSetDevice(device); }}) {}

  // Ends that register their memory and ends that do not must not meet.
  std::string Version() const override {
    return absl::StrCat(VersionText(version_), memory_ == nullptr ? "" : " registered");
  }
  RowMemory* memory() const override { return memory_.get(); }

  absl::StatusOr<std::string> MakeId() override {
    CCOE_RETURN_IF_ERROR(slots_->Promise());
    LinkId id = {};
    CCOE_RETURN_IF_ERROR(NcclStatus(ncclGetUniqueId(&id.nccl), "ncclGetUniqueId"));
    id.epoch = epoch_.fetch_add(1) + 1;
    return std::string(reinterpret_cast<const char*>(&id), sizeof(id));
  }

  absl::StatusOr<std::unique_ptr<RowCarrier>> Connect(const std::string& id, bool opener,
                                                      absl::Duration timeout,
                                                      RowCarrier::SendNote send_note) override {
    LinkId link;
    if (id.size() != sizeof(link)) {
      return absl::InvalidArgumentError(absl::StrCat("the id of a link's communicator: expected ",
                                                     sizeof(link), " bytes, found ", id.size()));
    }
    std::memcpy(&link, id.data(), sizeof(link));
    const std::string name = absl::StrCat("communicator of epoch ", link.epoch);
    absl::StatusOr<std::shared_ptr<const void>> slot = slots_->Take();
    if (!slot.ok()) return Annotate(slot.status(), name);
    auto make = [place = NcclCommunicator::Place{link.nccl, opener ? 0 : 1, memory_.get(),
                                                 *std::move(slot)},
                 this]() mutable -> std::unique_ptr<Communicator> {
      return std::make_unique<NcclCommunicator>(std::move(place), options_);
    };
    auto carrier = thread_.Open(std::move(make), opener, timeout, std::move(send_note));
    if (!carrier.ok()) return Annotate(carrier.status(), name);
    if (!opener) slots_->Kept();
    return carrier;
  }

 private:
  const NcclOptions options_;
  const int version_;
  const std::shared_ptr<RowMemory> memory_;  // null: host memory only
  const std::shared_ptr<LinkSlots> slots_;
  std::atomic<uint64_t> epoch_ = 0;
  DeviceThread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RowCarrierFactory>> MakeNcclCarriers(const NcclOptions& options) {
  CCOE_RETURN_IF_ERROR(OpenNccl());
  int version = 0;
  CCOE_RETURN_IF_ERROR(NcclStatus(ncclGetVersion(&version), "ncclGetVersion"));
  if (version < kOldestVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "NCCL: expected ", VersionText(kOldestVersion), " or newer, found ", VersionText(version)));
  }
  int devices = 0;
  const cudaError_t counted = cudaGetDeviceCount(&devices);
  if (counted != cudaSuccess || options.device < 0 || options.device >= devices) {
    return absl::FailedPreconditionError(
        absl::StrCat("NCCL: expected a CUDA device ", options.device, ", found ",
                     counted == cudaSuccess ? absl::StrCat(devices, " devices")
                                            : std::string(cudaGetErrorString(counted))));
  }
  std::shared_ptr<RowMemory> memory;
  if (options.memory_device != nullptr) {
    CCOE_ASSIGN_OR_RETURN(kernels::Buffer piece,
                          NcclMemory::Of(options.device)->Allocate(options.memory_bytes));
    memory = RowMemory::Over(options.memory_device, std::move(piece));
  }
  return std::make_unique<NcclCarriers>(options, version, std::move(memory));
}

}  // namespace ccoe::exchange
