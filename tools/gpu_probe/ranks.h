// SPDX-License-Identifier: Apache-2.0
// Two processes on one GPU that send each other rows over NCCL.
#ifndef CCOE_TOOLS_GPU_PROBE_RANKS_H_
#define CCOE_TOOLS_GPU_PROBE_RANKS_H_

#include <string>

namespace ccoe::probe {

// The process of one rank. `text`: "RANK:ID", the id of the communicator in hex. The exit code.
int RunRank(const std::string& text);

}  // namespace ccoe::probe

#endif  // CCOE_TOOLS_GPU_PROBE_RANKS_H_
