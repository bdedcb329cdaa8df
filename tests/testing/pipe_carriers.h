// SPDX-License-Identifier: Apache-2.0
// Row carriers within one process: what a link with rows beside its stream is tested with where
// there is no GPU.
#ifndef CCOE_TESTS_TESTING_PIPE_CARRIERS_H_
#define CCOE_TESTS_TESTING_PIPE_CARRIERS_H_

#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "runtime/base/check.h"
#include "runtime/exchange/grpc/link_thread.h"
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

  absl::StatusOr<std::unique_ptr<exchange::RowCarrier>> Connect(
      const std::string& id, bool opener, absl::Duration timeout,
      exchange::RowCarrier::SendNote send_note) override {
    absl::MutexLock lock(&mutex_);
    std::shared_ptr<Pipes>& pipes = waiting_[id];
    if (pipes == nullptr) pipes = std::make_shared<Pipes>(&callbacks_);
    const std::shared_ptr<Pipes> mine = pipes;
    ++mine->ends;
    auto both = [&mine] { return mine->ends == 2; };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&both), timeout)) {
      return absl::DeadlineExceededError("the other end did not come");
    }
    return std::make_unique<End>(mine, opener, std::move(send_note));
  }

 private:
  using Rows = exchange::CarriedRows;
  using Done = exchange::RowCarrier::Done;

  // Runs callbacks, in order.
  struct Callbacks {
    void Run(Done done, absl::StatusOr<Rows> rows) {
      thread.Run(
          [done = std::move(done), rows = std::move(rows)]() mutable { done(std::move(rows)); });
    }
    exchange::LinkThread thread;
  };

  // What is on its way in one direction: what was sent and not received, or the other way round.
  class Pipe {
   public:
    explicit Pipe(Callbacks* callbacks) : callbacks_(*callbacks) {}
    void Send(Rows rows, Done done) {
      std::string bytes(rows.size(), '\0');
      std::memcpy(bytes.data(), Address(rows), bytes.size());
      Finish(Matched(std::move(bytes), std::nullopt));
      callbacks_.Run(std::move(done), closed() ? absl::StatusOr<Rows>(Aborted()) : std::move(rows));
    }
    void Receive(Rows room, Done done) {
      Finish(Matched(std::nullopt, Waiting{std::move(room), std::move(done)}));
    }
    void Close() {
      std::deque<Waiting> waiting;
      {
        absl::MutexLock lock(&mutex_);
        closed_ = true;
        waiting.swap(waiting_);
      }
      for (Waiting& each : waiting) callbacks_.Run(std::move(each.done), Aborted());
    }

   private:
    struct Waiting {
      Rows room;
      Done done;
    };
    struct Match {
      std::optional<Waiting> waiting;
      std::string bytes;
      bool closed = false;
    };

    static absl::Status Aborted() { return absl::UnavailableError("the carrier is aborted"); }
    static void* Address(Rows& rows) {
      return rows.on_device() ? HostAddress(rows.data()) : rows.data();
    }
    bool closed() {
      absl::MutexLock lock(&mutex_);
      return closed_;
    }
    // Takes one of both in; gives back what meets.
    Match Matched(std::optional<std::string> bytes, std::optional<Waiting> waiting) {
      absl::MutexLock lock(&mutex_);
      if (closed_) return {std::move(waiting), "", true};
      if (waiting.has_value()) {
        waiting_.push_back(*std::move(waiting));
      } else {
        sent_.push_back(*std::move(bytes));
      }
      if (waiting_.empty() || sent_.empty()) return {};
      Match match{std::move(waiting_.front()), std::move(sent_.front()), false};
      waiting_.pop_front();
      sent_.pop_front();
      return match;
    }
    void Finish(Match match) {
      if (!match.waiting.has_value()) return;
      Waiting& waiting = *match.waiting;
      if (match.closed) return callbacks_.Run(std::move(waiting.done), Aborted());
      if (match.bytes.size() != waiting.room.size()) {
        return callbacks_.Run(std::move(waiting.done),
                              absl::UnavailableError("transfers of different sizes"));
      }
      std::memcpy(Address(waiting.room), match.bytes.data(), match.bytes.size());
      callbacks_.Run(std::move(waiting.done), std::move(waiting.room));
    }

    Callbacks& callbacks_;
    absl::Mutex mutex_;
    std::deque<std::string> sent_ ABSL_GUARDED_BY(mutex_);
    std::deque<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
    bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  };
  struct Pipes {
    explicit Pipes(Callbacks* callbacks) : there(callbacks), back(callbacks) {}
    int ends = 0;
    Pipe there, back;
  };

  // Says of each transfer that it was posted, and wants to hear the same of the other end's: notes
  // must get through, in order.
  class End final : public exchange::RowCarrier {
   public:
    End(std::shared_ptr<Pipes> pipes, bool opener, SendNote send_note)
        : pipes_(std::move(pipes)), opener_(opener), send_note_(std::move(send_note)) {}
    ~End() override {
      Abort();
      absl::MutexLock lock(&mutex_);
      auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return running_ == 0; };
      mutex_.Await(absl::Condition(&none));
    }
    void Send(Rows rows, Done done) override {
      uint64_t number = 0;
      {
        absl::MutexLock lock(&mutex_);
        number = ++sent_;
      }
      send_note_({number, 1, 0});
      (opener_ ? pipes_->there : pipes_->back).Send(std::move(rows), Counted(std::move(done)));
    }
    void Receive(Rows room, Done done) override {
      (opener_ ? pipes_->back : pipes_->there).Receive(std::move(room), Counted(std::move(done)));
    }
    void Take(const Note& note) override {
      absl::MutexLock lock(&mutex_);
      CCOE_CHECK(note.round == ++heard_ && note.sends == 1);
    }
    void Abort() override {
      pipes_->there.Close();
      pipes_->back.Close();
    }

   private:
    Done Counted(Done done) {
      absl::MutexLock lock(&mutex_);
      ++running_;
      return [this, done = std::move(done)](absl::StatusOr<Rows> rows) mutable {
        done(std::move(rows));
        absl::MutexLock lock(&mutex_);
        --running_;
      };
    }

    const std::shared_ptr<Pipes> pipes_;
    const bool opener_;
    SendNote send_note_;
    absl::Mutex mutex_;
    uint64_t sent_ ABSL_GUARDED_BY(mutex_) = 0, heard_ ABSL_GUARDED_BY(mutex_) = 0;
    int running_ ABSL_GUARDED_BY(mutex_) = 0;  // transfers without their `done`
  };

  const std::shared_ptr<exchange::RowMemory> memory_;  // null: host memory only
  Callbacks callbacks_;
  absl::Mutex mutex_;
  int ids_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::shared_ptr<Pipes>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_PIPE_CARRIERS_H_
