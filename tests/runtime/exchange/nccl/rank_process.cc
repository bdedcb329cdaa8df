#include "tests/runtime/exchange/nccl/rank_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "kernels/cuda/cuda_ops.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/nccl/nccl_carriers.h"

namespace ccoe::exchange {
namespace {

constexpr absl::Duration kConnectTime = absl::Seconds(30);
constexpr int kSendingFd = 3, kReceivingFd = 4;

bool WriteAll(int fd, const void* data, size_t size) {
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = send(fd, next, size, MSG_NOSIGNAL);
    if (written <= 0) return false;
    next += written;
    size -= static_cast<size_t>(written);
  }
  return true;
}

bool ReadAll(int fd, void* data, size_t size) {
  char* next = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = read(fd, next, size);
    if (got <= 0) return false;
    next += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

bool WriteBytes(int fd, absl::string_view bytes) {
  const uint64_t size = bytes.size();
  return WriteAll(fd, &size, sizeof(size)) && WriteAll(fd, bytes.data(), bytes.size());
}

bool ReadBytes(int fd, std::string& bytes) {
  uint64_t size = 0;
  if (!ReadAll(fd, &size, sizeof(size)) || size > (uint64_t{1} << 30)) return false;
  bytes.resize(size);
  return ReadAll(fd, bytes.data(), size);
}

absl::Status NoDevice() {
  return absl::FailedPreconditionError("rows of a device end in the rank's process");
}

// This process's end: each call is one request to a thread of the rank's process.
class RankCarrier final : public RowCarrier {
 public:
  RankCarrier(int sending, int receiving) : sending_(sending), receiving_(receiving) {}
  ~RankCarrier() override { Abort(); }

  absl::Status Send(absl::string_view bytes) override {
    char done = 0;
    if (WriteBytes(sending_, bytes) && ReadAll(sending_, &done, 1) && done == 1) {
      return absl::OkStatus();
    }
    return absl::UnavailableError("the rank's process is gone or its carrier broken");
  }
  absl::Status Receive(std::string& bytes) override {
    const uint64_t size = bytes.size();
    if (WriteAll(receiving_, &size, sizeof(size)) && ReadBytes(receiving_, bytes) &&
        bytes.size() == size) {
      return absl::OkStatus();
    }
    return absl::UnavailableError("the rank's process is gone or its carrier broken");
  }
  absl::Status SendRows(const RowBlock&) override { return NoDevice(); }
  absl::Status ReceiveRows(const RowMemory::Fresh&) override { return NoDevice(); }
  void Abort() override {
    shutdown(sending_, SHUT_RDWR);
    shutdown(receiving_, SHUT_RDWR);
  }

 private:
  const int sending_, receiving_;
};

// A carrier with the process it lives in.
class OwningCarrier final : public RowCarrier {
 public:
  OwningCarrier(std::unique_ptr<RankProcess> process, std::unique_ptr<RowCarrier> carrier)
      : process_(std::move(process)), carrier_(std::move(carrier)) {}
  absl::Status Send(absl::string_view bytes) override { return carrier_->Send(bytes); }
  absl::Status Receive(std::string& bytes) override { return carrier_->Receive(bytes); }
  absl::Status SendRows(const RowBlock& rows) override { return carrier_->SendRows(rows); }
  absl::Status ReceiveRows(const RowMemory::Fresh& rows) override {
    return carrier_->ReceiveRows(rows);
  }
  void Abort() override { carrier_->Abort(); }

 private:
  const std::unique_ptr<RankProcess> process_;
  const std::unique_ptr<RowCarrier> carrier_;
};

// From the rank's device where its bytes are a row of whole values there, as most are, else from
// host memory: the peer cannot tell.
absl::Status SendFrom(RowMemory& memory, RowCarrier& carrier, const std::string& bytes) {
  if (bytes.empty() || bytes.size() % 2 != 0) return carrier.Send(bytes);
  CCOE_ASSIGN_OR_RETURN(
      const RowMemory::Fresh rows,
      memory.Take(1, static_cast<int64_t>(bytes.size() / 2), kernels::DType::kBF16));
  CCOE_RETURN_IF_ERROR(memory.device()->CopyFromHost(bytes.data(), rows.rows.data, bytes.size()));
  return carrier.SendRows(rows.block);
}

absl::Status ReceiveInto(RowMemory& memory, RowCarrier& carrier, std::string& bytes) {
  if (bytes.empty() || bytes.size() % 2 != 0) return carrier.Receive(bytes);
  CCOE_ASSIGN_OR_RETURN(
      const RowMemory::Fresh rows,
      memory.Take(1, static_cast<int64_t>(bytes.size() / 2), kernels::DType::kBF16));
  CCOE_RETURN_IF_ERROR(carrier.ReceiveRows(rows));
  return memory.device()->CopyToHost(rows.rows.data, bytes.data(), bytes.size());
}

void SendFor(RowMemory& memory, RowCarrier& carrier) {
  std::string bytes;
  while (ReadBytes(kSendingFd, bytes)) {
    const char done = SendFrom(memory, carrier, bytes).ok() ? 1 : 0;
    if (!WriteAll(kSendingFd, &done, 1)) break;
  }
}

void ReceiveFor(RowMemory& memory, RowCarrier& carrier) {
  uint64_t size = 0;
  while (ReadAll(kReceivingFd, &size, sizeof(size))) {
    std::string bytes(size, '\0');
    if (!ReceiveInto(memory, carrier, bytes).ok()) bytes.clear();
    if (!WriteBytes(kReceivingFd, bytes)) break;
  }
}

}  // namespace

int RunRank() {
  auto device = kernels::OpenCudaDevice(0);
  if (!device.ok()) return 2;
  NcclOptions options;
  options.memory_device = device->get();
  auto carriers = MakeNcclCarriers(options);
  if (!carriers.ok()) return 3;
  RowMemory& memory = *(*carriers)->memory();
  const auto id = (*carriers)->MakeId();
  if (!id.ok() || !WriteBytes(kSendingFd, *id)) return 4;
  char go = 0;
  if (!ReadAll(kSendingFd, &go, 1)) return 0;
  auto carrier = (*carriers)->Connect(*id, /*opener=*/false, kConnectTime);
  const char connected = carrier.ok() ? 1 : 0;
  if (!WriteAll(kSendingFd, &connected, 1) || !carrier.ok()) return 5;
  std::thread receiver([&] { ReceiveFor(memory, **carrier); });
  SendFor(memory, **carrier);
  (*carrier)->Abort();
  receiver.join();
  return 0;
}

absl::StatusOr<std::unique_ptr<RankProcess>> RankProcess::Start() {
  int sending[2], receiving[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sending) != 0 ||
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, receiving) != 0) {
    return absl::InternalError("socketpair");
  }
  std::unique_ptr<RankProcess> process(new RankProcess());
  process->pid_ = fork();
  if (process->pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Above the two descriptors they become.
    const int from_sending = fcntl(sending[1], F_DUPFD_CLOEXEC, 16);
    const int from_receiving = fcntl(receiving[1], F_DUPFD_CLOEXEC, 16);
    dup2(from_sending, kSendingFd);
    dup2(from_receiving, kReceivingFd);
    setenv("NCCL_HOSTID", "ccoe-test-rank", /*overwrite=*/1);
    execl("/proc/self/exe", "nccl_link_test", kRankArgument, nullptr);
    _exit(127);
  }
  close(sending[1]);
  close(receiving[1]);
  process->sending_ = sending[0];
  process->receiving_ = receiving[0];
  if (process->pid_ < 0 || !ReadBytes(process->sending_, process->id_)) {
    return absl::UnavailableError("the rank's process did not start");
  }
  return process;
}

RankProcess::~RankProcess() {
  Kill();
  close(sending_);
  close(receiving_);
}

void RankProcess::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

absl::StatusOr<std::unique_ptr<RowCarrier>> RankProcess::Connect() {
  const char go = 1;
  char connected = 0;
  if (!WriteAll(sending_, &go, 1) || !ReadAll(sending_, &connected, 1) || connected != 1) {
    return absl::UnavailableError("the rank's process could not connect");
  }
  return std::make_unique<RankCarrier>(sending_, receiving_);
}

absl::StatusOr<std::string> RankProcesses::MakeId() {
  CCOE_ASSIGN_OR_RETURN(auto process, RankProcess::Start());
  const std::string id = process->id();
  absl::MutexLock lock(&mutex_);
  waiting_[id] = std::move(process);
  return id;
}

absl::StatusOr<std::unique_ptr<RowCarrier>> RankProcesses::Connect(const std::string& id, bool,
                                                                   absl::Duration) {
  std::unique_ptr<RankProcess> process;
  {
    absl::MutexLock lock(&mutex_);
    process = std::move(waiting_[id]);
    waiting_.erase(id);
  }
  CCOE_ASSIGN_OR_RETURN(auto carrier, process->Connect());
  return std::make_unique<OwningCarrier>(std::move(process), std::move(carrier));
}

}  // namespace ccoe::exchange
