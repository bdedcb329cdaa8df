// The link inside one process: no wire, no copy beyond the hand-over of the rows.
#ifndef CCOE_RUNTIME_EXCHANGE_LOCAL_LOCAL_LINK_H_
#define CCOE_RUNTIME_EXCHANGE_LOCAL_LOCAL_LINK_H_

#include <memory>

#include "runtime/exchange/activation_link.h"

namespace ccoe::exchange {

struct LinkOptions {
  int max_swaps_in_flight = 64;  // one more gets RESOURCE_EXHAUSTED
  StepLimits limits;
  // Of the device both ends compute on: rows then stay there. Null, or a handler that computes
  // elsewhere: host memory.
  std::shared_ptr<RowMemory> memory;
};

// `handler` must outlive the link.
std::unique_ptr<ActivationLink> MakeLocalLink(SwapHandler* handler,
                                              const LinkOptions& options = {});

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_LOCAL_LOCAL_LINK_H_
