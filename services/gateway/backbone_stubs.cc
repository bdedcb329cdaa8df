#include "services/gateway/backbone_stubs.h"

#include <utility>

#include "runtime/base/status_macros.h"
#include "services/common/address.h"

namespace ccoe::services {

absl::StatusOr<std::shared_ptr<v1::Backbone::StubInterface>> BackboneStubs::Get(
    const std::string& address) {
  absl::MutexLock lock(&mutex_);
  if (auto it = peers_.find(address); it != peers_.end()) return it->second.stub;
  CCOE_ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, channels_->Connect(address));
  std::shared_ptr<v1::Backbone::StubInterface> stub = v1::Backbone::NewStub(channel);
  peers_[address] = {std::move(channel), stub};
  return stub;
}

void BackboneStubs::Forget(const std::string& address) {
  absl::MutexLock lock(&mutex_);
  const auto it = peers_.find(address);
  if (it == peers_.end()) return;
  // Channels within the process know no state, and cost nothing to make.
  const bool stands = !IsInProcess(address) &&
                      it->second.channel->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY;
  if (stands) return;
  peers_.erase(it);
}

}  // namespace ccoe::services
