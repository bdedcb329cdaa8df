#include "runtime/exchange/nccl/nccl_carriers.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
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
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/nccl/nccl_channel.h"
#include "runtime/exchange/nccl/nccl_library.h"

namespace ccoe::exchange {
namespace {

constexpr int kOldestVersion = NCCL_VERSION(2, 28, 0);

// What travels as a carrier's id: one communicator a direction, and a number that tells this
// worker's carriers apart in messages.
struct LinkId {
  ncclUniqueId to_acceptor;
  ncclUniqueId to_opener;
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

class NcclCarrier final : public RowCarrier {
 public:
  NcclCarrier(std::unique_ptr<NcclChannel> out, std::unique_ptr<NcclChannel> in,
              absl::Duration patience)
      : patience_(patience), out_(std::move(out)), in_(std::move(in)) {}
  ~NcclCarrier() override { Abort(); }

  absl::Status Send(absl::string_view bytes) override { return out_->Send(bytes, patience_); }
  absl::Status Receive(std::string& bytes) override { return in_->Receive(bytes, patience_); }
  absl::Status SendRows(const RowBlock& rows) override { return out_->SendRows(rows, patience_); }
  absl::Status ReceiveRows(const RowMemory::Fresh& rows) override {
    return in_->ReceiveRows(rows, patience_);
  }

  void Abort() override {
    out_->Stop();
    in_->Stop();
    out_->Revoke();
    in_->Revoke();
  }

  // The first rows make the connections, which takes much longer than a transfer.
  absl::Status WarmUp(bool opener, absl::Time deadline) {
    std::string byte(1, '\0');
    const auto left = [deadline] { return std::max(deadline - absl::Now(), absl::ZeroDuration()); };
    if (opener) CCOE_RETURN_IF_ERROR(out_->Send(byte, left()));
    CCOE_RETURN_IF_ERROR(in_->Receive(byte, left()));
    return opener ? absl::OkStatus() : out_->Send(byte, left());
  }

 private:
  const absl::Duration patience_;
  const std::unique_ptr<NcclChannel> out_, in_;
};

class NcclCarriers final : public RowCarrierFactory {
 public:
  NcclCarriers(const NcclOptions& options, int version, std::shared_ptr<RowMemory> memory)
      : options_(options), version_(version), memory_(std::move(memory)) {}

  // Ends that register their memory and ends that do not must not meet.
  std::string Version() const override {
    return absl::StrCat(VersionText(version_), memory_ == nullptr ? "" : " registered");
  }
  RowMemory* memory() const override { return memory_.get(); }

  absl::StatusOr<std::string> MakeId() override {
    LinkId id = {};
    CCOE_RETURN_IF_ERROR(NcclStatus(ncclGetUniqueId(&id.to_acceptor), "ncclGetUniqueId"));
    CCOE_RETURN_IF_ERROR(NcclStatus(ncclGetUniqueId(&id.to_opener), "ncclGetUniqueId"));
    id.epoch = epoch_.fetch_add(1) + 1;
    return std::string(reinterpret_cast<const char*>(&id), sizeof(id));
  }

  absl::StatusOr<std::unique_ptr<RowCarrier>> Connect(const std::string& id, bool opener,
                                                      absl::Time deadline) override {
    LinkId link;
    if (id.size() != sizeof(link)) {
      return absl::InvalidArgumentError(absl::StrCat("the id of a link's communicators: expected ",
                                                     sizeof(link), " bytes, found ", id.size()));
    }
    std::memcpy(&link, id.data(), sizeof(link));
    auto carrier = ConnectLink(link, opener, deadline);
    if (!carrier.ok()) {
      return Annotate(carrier.status(), absl::StrCat("communicators of epoch ", link.epoch));
    }
    return carrier;
  }

 private:
  // Both ends meet in the same order.
  absl::StatusOr<std::unique_ptr<RowCarrier>> ConnectLink(const LinkId& link, bool opener,
                                                          absl::Time deadline) const {
    const int rank = opener ? 0 : 1;
    CCOE_ASSIGN_OR_RETURN(
        auto to_acceptor,
        NcclChannel::Create({link.to_acceptor, rank, memory_.get()}, options_, deadline));
    CCOE_ASSIGN_OR_RETURN(auto to_opener, NcclChannel::Create({link.to_opener, rank, memory_.get()},
                                                              options_, deadline));
    auto& out = opener ? to_acceptor : to_opener;
    auto& in = opener ? to_opener : to_acceptor;
    auto carrier = std::make_unique<NcclCarrier>(std::move(out), std::move(in), options_.patience);
    CCOE_RETURN_IF_ERROR(Annotate(carrier->WarmUp(opener, deadline), "the first rows"));
    return std::unique_ptr<RowCarrier>(std::move(carrier));
  }

  const NcclOptions options_;
  const int version_;
  const std::shared_ptr<RowMemory> memory_;  // null: host memory only
  std::atomic<uint64_t> epoch_ = 0;
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
