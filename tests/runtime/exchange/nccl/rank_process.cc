// SPDX-License-Identifier: Apache-2.0
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
constexpr int kSocketFd = 3;

// What goes over the socket, followed by `bytes`: of a receive, in the request the room's size
// alone.
enum class Kind : uint32_t { kId, kConnect, kConnected, kSend, kReceive, kDone, kNote };
struct Frame {
  Kind kind = Kind::kId;
  uint32_t failed = 0;    // of kConnected and kDone
  uint64_t transfer = 0;  // of kSend, kReceive and kDone
  RowCarrier::Note note;  // of kNote
  uint64_t room = 0;      // of kReceive
  uint64_t size = 0;      // of what follows
};

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

// One end of the socket. Thread-safe for writing.
class Wire {
 public:
  explicit Wire(int fd) : fd_(fd) {}

  bool Write(Frame frame, absl::string_view bytes = "") {
    absl::MutexLock lock(&mutex_);
    frame.size = bytes.size();
    return WriteAll(fd_, &frame, sizeof(frame)) && WriteAll(fd_, bytes.data(), bytes.size());
  }
  bool Read(Frame& frame, std::string& bytes) {
    if (!ReadAll(fd_, &frame, sizeof(frame)) || frame.size > (uint64_t{1} << 30)) return false;
    bytes.resize(frame.size);
    return ReadAll(fd_, bytes.data(), frame.size);
  }
  void Shut() { shutdown(fd_, SHUT_RDWR); }

 private:
  const int fd_;
  absl::Mutex mutex_;
};

// This process's end: each call is one request to the rank's process.
class RankCarrier final : public RowCarrier {
 public:
  RankCarrier(int socket, SendNote send_note) : wire_(socket), send_note_(std::move(send_note)) {
    reader_ = std::thread([this] { Read(); });
  }
  ~RankCarrier() override {
    Abort();
    reader_.join();
  }

  void Send(CarriedRows rows, Done done) override {
    Frame frame;
    frame.kind = Kind::kSend;
    const std::string bytes = rows.bytes;
    Ask(frame, bytes, std::move(rows), std::move(done));
  }
  void Receive(CarriedRows room, Done done) override {
    Frame frame;
    frame.kind = Kind::kReceive;
    frame.room = room.size();
    Ask(frame, "", std::move(room), std::move(done));
  }
  void Take(const Note& note) override {
    Frame frame;
    frame.kind = Kind::kNote;
    frame.note = note;
    wire_.Write(frame);
  }
  void Abort() override { wire_.Shut(); }

 private:
  struct Waiting {
    CarriedRows rows;
    Done done;
  };

  static absl::Status Gone() {
    return absl::UnavailableError("the rank's process is gone or its carrier broken");
  }

  void Ask(Frame frame, const std::string& bytes, CarriedRows rows, Done done) {
    {
      absl::MutexLock lock(&mutex_);
      if (!over_) {
        frame.transfer = ++last_;
        waiting_[frame.transfer] = {std::move(rows), std::move(done)};
      }
    }
    if (frame.transfer == 0) return done(Gone());
    wire_.Write(frame, bytes);  // the reader sees where it does not get there
  }

  void Read() {
    Frame frame;
    std::string bytes;
    while (wire_.Read(frame, bytes)) {
      if (frame.kind == Kind::kNote) {
        send_note_(frame.note);
        continue;
      }
      Waiting waiting;
      {
        absl::MutexLock lock(&mutex_);
        waiting = std::move(waiting_.at(frame.transfer));
        waiting_.erase(frame.transfer);
      }
      if (!bytes.empty()) waiting.rows.bytes = std::move(bytes);
      waiting.done(frame.failed != 0 ? absl::StatusOr<CarriedRows>(Gone())
                                     : std::move(waiting.rows));
    }
    std::map<uint64_t, Waiting> waiting;
    {
      absl::MutexLock lock(&mutex_);
      over_ = true;
      waiting.swap(waiting_);
    }
    for (auto& [transfer, each] : waiting) each.done(Gone());
  }

  Wire wire_;
  SendNote send_note_;
  absl::Mutex mutex_;
  std::map<uint64_t, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_ ABSL_GUARDED_BY(mutex_) = 0;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread reader_;
};

// A carrier with the process it lives in.
class OwningCarrier final : public RowCarrier {
 public:
  OwningCarrier(std::unique_ptr<RankProcess> process, std::unique_ptr<RowCarrier> carrier)
      : process_(std::move(process)), carrier_(std::move(carrier)) {}
  void Send(CarriedRows rows, Done done) override {
    carrier_->Send(std::move(rows), std::move(done));
  }
  void Receive(CarriedRows room, Done done) override {
    carrier_->Receive(std::move(room), std::move(done));
  }
  void Take(const Note& note) override { carrier_->Take(note); }
  void Abort() override { carrier_->Abort(); }

 private:
  const std::unique_ptr<RankProcess> process_;
  const std::unique_ptr<RowCarrier> carrier_;
};

// Room on the rank's device where its bytes are a row of whole values there, as most are, else in
// host memory: the peer cannot tell.
absl::StatusOr<CarriedRows> Room(RowMemory& memory, uint64_t bytes) {
  if (bytes % 2 != 0) return CarriedRows(std::string(bytes, '\0'));
  CCOE_ASSIGN_OR_RETURN(RowMemory::Fresh fresh,
                        memory.Take(1, static_cast<int64_t>(bytes / 2), kernels::DType::kBF16));
  return CarriedRows(std::move(fresh));
}

absl::StatusOr<CarriedRows> ToSend(RowMemory& memory, const std::string& bytes) {
  CCOE_ASSIGN_OR_RETURN(CarriedRows rows, Room(memory, bytes.size()));
  if (!rows.on_device()) return CarriedRows(bytes);
  CCOE_RETURN_IF_ERROR(memory.device()->CopyFromHost(bytes.data(), rows.data(), bytes.size()));
  return rows;
}

absl::StatusOr<std::string> Received(RowMemory& memory, absl::StatusOr<CarriedRows> rows) {
  CCOE_RETURN_IF_ERROR(rows.status());
  if (!rows->on_device()) return std::move(rows->bytes);
  std::string bytes(rows->size(), '\0');
  CCOE_RETURN_IF_ERROR(memory.device()->CopyToHost(rows->data(), bytes.data(), bytes.size()));
  return bytes;
}

// Does what is asked of the rank until the socket ends.
void Serve(Wire& wire, RowMemory& memory, RowCarrier& carrier) {
  Frame frame;
  std::string bytes;
  while (wire.Read(frame, bytes)) {
    const auto answer = [&wire, &memory, transfer = frame.transfer,
                         receives =
                             frame.kind == Kind::kReceive](absl::StatusOr<CarriedRows> rows) {
      const absl::StatusOr<std::string> came =
          receives ? Received(memory, std::move(rows))
                   : (rows.ok() ? absl::StatusOr<std::string>("") : rows.status());
      Frame done;
      done.kind = Kind::kDone;
      done.transfer = transfer;
      done.failed = came.ok() ? 0 : 1;
      wire.Write(done, came.ok() ? *came : "");
    };
    if (frame.kind == Kind::kNote) {
      carrier.Take(frame.note);
      continue;
    }
    absl::StatusOr<CarriedRows> rows =
        frame.kind == Kind::kSend ? ToSend(memory, bytes) : Room(memory, frame.room);
    if (!rows.ok()) {
      answer(rows.status());
    } else if (frame.kind == Kind::kSend) {
      carrier.Send(*std::move(rows), answer);
    } else {
      carrier.Receive(*std::move(rows), answer);
    }
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
  const auto id = (*carriers)->MakeId();
  Wire wire(kSocketFd);
  Frame frame;
  std::string none;
  if (!id.ok() || !wire.Write(frame, *id)) return 4;
  if (!wire.Read(frame, none)) return 0;
  auto carrier = (*carriers)->Connect(*id, /*opener=*/false, kConnectTime,
                                      [&wire](const RowCarrier::Note& note) {
                                        Frame said;
                                        said.kind = Kind::kNote;
                                        said.note = note;
                                        wire.Write(said);
                                      });
  Frame connected;
  connected.kind = Kind::kConnected;
  connected.failed = carrier.ok() ? 0 : 1;
  if (!wire.Write(connected) || !carrier.ok()) return 5;
  Serve(wire, *(*carriers)->memory(), **carrier);
  return 0;
}

absl::StatusOr<std::unique_ptr<RankProcess>> RankProcess::Start() {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
    return absl::InternalError("socketpair");
  }
  std::unique_ptr<RankProcess> process(new RankProcess());
  process->pid_ = fork();
  if (process->pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Above the descriptor it becomes.
    dup2(fcntl(sockets[1], F_DUPFD_CLOEXEC, 16), kSocketFd);
    setenv("NCCL_HOSTID", "ccoe-test-rank", /*overwrite=*/1);
    execl("/proc/self/exe", "nccl_link_test", kRankArgument, nullptr);
    _exit(127);
  }
  close(sockets[1]);
  process->socket_ = sockets[0];
  Frame frame;
  if (process->pid_ < 0 || !Wire(process->socket_).Read(frame, process->id_)) {
    return absl::UnavailableError("the rank's process did not start");
  }
  return process;
}

RankProcess::~RankProcess() {
  Kill();
  close(socket_);
}

void RankProcess::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

absl::StatusOr<std::unique_ptr<RowCarrier>> RankProcess::Connect(RowCarrier::SendNote send_note) {
  Wire wire(socket_);
  Frame frame;
  frame.kind = Kind::kConnect;
  std::string none;
  if (!wire.Write(frame) || !wire.Read(frame, none) || frame.failed != 0) {
    return absl::UnavailableError("the rank's process could not connect");
  }
  return std::make_unique<RankCarrier>(socket_, std::move(send_note));
}

absl::StatusOr<std::string> RankProcesses::MakeId() {
  CCOE_ASSIGN_OR_RETURN(auto process, RankProcess::Start());
  const std::string id = process->id();
  absl::MutexLock lock(&mutex_);
  waiting_[id] = std::move(process);
  return id;
}

absl::StatusOr<std::unique_ptr<RowCarrier>> RankProcesses::Connect(const std::string& id, bool,
                                                                   absl::Duration,
                                                                   RowCarrier::SendNote send_note) {
  std::unique_ptr<RankProcess> process;
  {
    absl::MutexLock lock(&mutex_);
    process = std::move(waiting_[id]);
    waiting_.erase(id);
  }
  CCOE_ASSIGN_OR_RETURN(auto carrier, process->Connect(std::move(send_note)));
  return std::make_unique<OwningCarrier>(std::move(process), std::move(carrier));
}

}  // namespace ccoe::exchange
