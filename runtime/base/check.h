// SPDX-License-Identifier: Apache-2.0
// CCOE_CHECK for broken invariants: a bug in ccoe itself, never bad input (that gets a Status).
#ifndef CCOE_RUNTIME_BASE_CHECK_H_
#define CCOE_RUNTIME_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define CCOE_CHECK(condition)                                                                \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)

#endif  // CCOE_RUNTIME_BASE_CHECK_H_
