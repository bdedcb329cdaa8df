// Row carriers within one process: what a link with rows beside its stream is tested with where
// there is no GPU.
#ifndef CCOE_TESTS_TESTING_PIPE_CARRIERS_H_
#define CCOE_TESTS_TESTING_PIPE_CARRIERS_H_

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "runtime/exchange/row_carrier.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::testing {

class PipeCarriers final : public exchange::RowCarrierFactory {
 public:
  // With `memory`, of a TaggedDevice, rows go from there to there too, without a copy that the
  // device would count.
  explicit PipeCarriers(std::shared_ptr<exchange::RowMemory> memory = nullptr)
      : memory_(std::move(memory)) {}

  exchange::RowMemory* memory() const override { return memory_.get(); }
  std::string Version() const override { return "pipe 1"; }

  absl::StatusOr<std::string> MakeId() override {
    absl::MutexLock lock(&mutex_);
    return absl::StrCat("pipe ", ++ids_);
  }

  absl::StatusOr<std::unique_ptr<exchange::RowCarrier>> Connect(const std::string& id, bool opener,
                                                                absl::Duration timeout) override {
    absl::MutexLock lock(&mutex_);
    std::shared_ptr<Pipes>& pipes = waiting_[id];
    if (pipes == nullptr) pipes = std::make_shared<Pipes>();
    const std::shared_ptr<Pipes> mine = pipes;
    ++mine->ends;
    auto both = [&mine] { return mine->ends == 2; };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&both), timeout)) {
      return absl::DeadlineExceededError("the other end did not come");
    }
    return std::make_unique<End>(mine, opener);
  }

 private:
  // What is on its way in one direction.
  class Pipe {
   public:
    absl::Status Send(absl::string_view bytes) {
      absl::MutexLock lock(&mutex_);
      auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return closed_ || bytes_.size() < kCapacity;
      };
      mutex_.Await(absl::Condition(&room));
      if (closed_) return absl::UnavailableError("the carrier is aborted");
      bytes_.append(bytes.data(), bytes.size());
      return absl::OkStatus();
    }
    absl::Status Receive(std::string& bytes) {
      absl::MutexLock lock(&mutex_);
      auto there = [this, &bytes]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return closed_ || bytes_.size() >= bytes.size();
      };
      mutex_.Await(absl::Condition(&there));
      if (bytes_.size() < bytes.size()) return absl::UnavailableError("the carrier is aborted");
      bytes.assign(bytes_, 0, bytes.size());
      bytes_.erase(0, bytes.size());
      return absl::OkStatus();
    }
    void Close() {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
    }

   private:
    static constexpr size_t kCapacity = 1 << 16;

    absl::Mutex mutex_;
    std::string bytes_ ABSL_GUARDED_BY(mutex_);
    bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  };
  struct Pipes {
    int ends = 0;
    Pipe there, back;
  };

  class End final : public exchange::RowCarrier {
   public:
    End(std::shared_ptr<Pipes> pipes, bool opener) : pipes_(std::move(pipes)), opener_(opener) {}
    ~End() override { Abort(); }
    absl::Status Send(absl::string_view bytes) override {
      return (opener_ ? pipes_->there : pipes_->back).Send(bytes);
    }
    absl::Status Receive(std::string& bytes) override {
      return (opener_ ? pipes_->back : pipes_->there).Receive(bytes);
    }
    absl::Status SendRows(const exchange::RowBlock& rows) override {
      return Send({static_cast<const char*>(HostAddress(rows.view().data)), rows.bytes()});
    }
    absl::Status ReceiveRows(const exchange::RowMemory::Fresh& rows) override {
      std::string bytes(rows.block.bytes(), '\0');
      const absl::Status received = Receive(bytes);
      if (received.ok()) std::memcpy(HostAddress(rows.rows.data), bytes.data(), bytes.size());
      return received;
    }
    void Abort() override {
      pipes_->there.Close();
      pipes_->back.Close();
    }

   private:
    const std::shared_ptr<Pipes> pipes_;
    const bool opener_;
  };

  const std::shared_ptr<exchange::RowMemory> memory_;  // null: host memory only
  absl::Mutex mutex_;
  int ids_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::shared_ptr<Pipes>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_PIPE_CARRIERS_H_
