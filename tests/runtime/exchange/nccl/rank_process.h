// SPDX-License-Identifier: Apache-2.0
// The accepting end of an NCCL link in a process of its own, as NCCL wants it: two ranks of one
// process cannot share a GPU. What comes over NCCL there goes through a socket to this process, and
// back.
#ifndef CCOE_TESTS_RUNTIME_EXCHANGE_NCCL_RANK_PROCESS_H_
#define CCOE_TESTS_RUNTIME_EXCHANGE_NCCL_RANK_PROCESS_H_

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "runtime/exchange/row_carrier.h"

namespace ccoe::exchange {

// A process of this program, started with kRankArgument. Ends with this object.
class RankProcess {
 public:
  // With NCCL_HOSTID of its own, without which NCCL refuses a GPU that has a rank already.
  static absl::StatusOr<std::unique_ptr<RankProcess>> Start();
  ~RankProcess();

  void Kill();  // -9

  // The id it made, and its carrier, which ends before this object.
  const std::string& id() const { return id_; }
  absl::StatusOr<std::unique_ptr<RowCarrier>> Connect(RowCarrier::SendNote send_note);

 private:
  RankProcess() = default;

  pid_t pid_ = 0;
  int socket_ = -1;
  std::string id_;
};

// For ExchangeService: every carrier in a fresh RankProcess.
class RankProcesses final : public RowCarrierFactory {
 public:
  explicit RankProcesses(std::string version) : version_(std::move(version)) {}

  std::string Version() const override { return version_; }
  // What comes to a rank's device gets here through its process's host memory.
  RowMemory* memory() const override { return nullptr; }
  absl::StatusOr<std::string> MakeId() override;
  absl::StatusOr<std::unique_ptr<RowCarrier>> Connect(const std::string& id, bool opener,
                                                      absl::Duration timeout,
                                                      RowCarrier::SendNote send_note) override;

 private:
  const std::string version_;
  absl::Mutex mutex_;
  std::map<std::string, std::unique_ptr<RankProcess>> waiting_ ABSL_GUARDED_BY(mutex_);
};

inline constexpr char kRankArgument[] = "--nccl-rank";

// What main() of the rank's process does.
int RunRank();

}  // namespace ccoe::exchange

#endif  // CCOE_TESTS_RUNTIME_EXCHANGE_NCCL_RANK_PROCESS_H_
