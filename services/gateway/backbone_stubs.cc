#include "services/gateway/backbone_stubs.h"

#include "runtime/base/status_macros.h"

namespace ccoe::services {

absl::StatusOr<std::shared_ptr<v1::Backbone::StubInterface>> BackboneStubs::Get(
    const std::string& address) {
  absl::MutexLock lock(&mutex_);
  if (auto it = stubs_.find(address); it != stubs_.end()) return it->second;
  CCOE_ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, channels_->Connect(address));
  std::shared_ptr<v1::Backbone::StubInterface> stub = v1::Backbone::NewStub(channel);
  stubs_[address] = stub;
  return stub;
}

void BackboneStubs::Forget(const std::string& address) {
  absl::MutexLock lock(&mutex_);
  stubs_.erase(address);
}

}  // namespace ccoe::services
