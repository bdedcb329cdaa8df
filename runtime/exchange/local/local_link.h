// SPDX-License-Identifier: Apache-2.0
// The link inside one process: no wire, no copy: rows are handed over as they lie.
#ifndef CCOE_RUNTIME_EXCHANGE_LOCAL_LOCAL_LINK_H_
#define CCOE_RUNTIME_EXCHANGE_LOCAL_LOCAL_LINK_H_

#include <memory>

#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"

namespace ccoe::exchange {

struct LinkOptions {
  // In flight at once; more is refused with kLinkFull. The handler's own queue is bounded as well.
  SwapCredit capacity = {int64_t{4} << 30, 8192};
  EnvelopeLimits limits;
  // Of the device both ends compute on: rows then stay there. Null, or a handler that computes
  // elsewhere: host memory.
  std::shared_ptr<RowMemory> memory;
};

// `handler` must outlive the link.
std::unique_ptr<ActivationLink> MakeLocalLink(SwapHandler* handler,
                                              const LinkOptions& options = {});

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_LOCAL_LOCAL_LINK_H_
