// SPDX-License-Identifier: Apache-2.0
// The shape contracts of ops.h, checked alike by every implementation: a wrong shape is the
// caller's bug and aborts. What one device alone does not take it checks itself.
#ifndef CCOE_KERNELS_CHECK_SHAPES_H_
#define CCOE_KERNELS_CHECK_SHAPES_H_

#include "kernels/attention.h"
#include "kernels/linear.h"
#include "kernels/moe.h"

namespace ccoe::kernels {

void CheckShapes(const HeadLinearArgs& args);
void CheckShapes(const RopeAnglesArgs& args);
void CheckShapes(const RopeAndAppendKvArgs& args);
void CheckShapes(const PagedAttentionArgs& args);
void CheckShapes(const TopKGateArgs& args);
void CheckShapes(const GroupedFfnArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CHECK_SHAPES_H_
