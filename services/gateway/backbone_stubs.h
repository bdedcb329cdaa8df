// SPDX-License-Identifier: Apache-2.0
// Backbone workers as the gateway calls them: stubs by address, and what the gates of all of them
// chose, added up.
#ifndef CCOE_SERVICES_GATEWAY_BACKBONE_STUBS_H_
#define CCOE_SERVICES_GATEWAY_BACKBONE_STUBS_H_

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "ccoe/v1/backbone.grpc.pb.h"
#include "ccoe/v1/moe.pb.h"
#include "services/common/channel_factory.h"
#include "services/common/stubs.h"

namespace ccoe::services {

// Keeps one channel an address. Thread-safe.
class BackboneStubs {
 public:
  // `channels` must outlive this.
  explicit BackboneStubs(const ChannelFactory* channels) : channels_(channels) {}

  // shared_ptr: the stub is used outside the lock while Forget may drop it. Errors as
  // ChannelFactory::Connect.
  absl::StatusOr<std::shared_ptr<v1::Backbone::StubInterface>> Get(const std::string& address)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // After UNAVAILABLE: the next Get makes a new channel, which connects without waiting for the old
  // one's next attempt. Where the connection stands the worker itself has said so, and it is kept.
  void Forget(const std::string& address) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Peer {
    std::shared_ptr<grpc::Channel> channel;
    std::shared_ptr<v1::Backbone::StubInterface> stub;
  };

  const ChannelFactory* const channels_;
  absl::Mutex mutex_;
  std::map<std::string, Peer> peers_ ABSL_GUARDED_BY(mutex_);
};

// Asks the router which backbone workers there are, then each of these, for at most half a minute.
// Errors name the worker; INVALID_ARGUMENT: counts that do not fit those of the others; NOT_FOUND:
// a layer that has no counts.
absl::StatusOr<v1::MoeStatistics> CollectMoeStatistics(const v1::GetMoeStatisticsRequest& request,
                                                       ControlStub& router,
                                                       BackboneStubs& backbones);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_BACKBONE_STUBS_H_
