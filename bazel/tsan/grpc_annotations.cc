// SPDX-License-Identifier: Apache-2.0
// As absl_annotations.cc, for gRPC: what was done before an operation was begun happens before
// whoever is told of its end, by a completion queue. What gRPC does inside is suppressions.txt's.
#include <dlfcn.h>
#include <grpc/grpc.h>
#include <sanitizer/tsan_interface.h>

#include <cstdlib>

namespace {

template <typename Function>
Function* Library(const char* symbol, Function*) {
  void* const found = dlsym(RTLD_NEXT, symbol);
  if (found == nullptr) abort();
  return reinterpret_cast<Function*>(found);
}

grpc_event Told(grpc_event event) {
  if (event.type == GRPC_OP_COMPLETE) __tsan_acquire(event.tag);
  return event;
}

}  // namespace

#define CCOE_REAL(name) static auto* const real = Library(#name, &name)

extern "C" {

grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* ops, size_t count, void* tag,
                                      void* reserved) {
  CCOE_REAL(grpc_call_start_batch);
  __tsan_release(tag);
  return real(call, ops, count, tag, reserved);
}

grpc_event grpc_completion_queue_next(grpc_completion_queue* queue, gpr_timespec deadline,
                                      void* reserved) {
  CCOE_REAL(grpc_completion_queue_next);
  return Told(real(queue, deadline, reserved));
}

grpc_event grpc_completion_queue_pluck(grpc_completion_queue* queue, void* tag,
                                       gpr_timespec deadline, void* reserved) {
  CCOE_REAL(grpc_completion_queue_pluck);
  return Told(real(queue, tag, deadline, reserved));
}

}  // extern "C"
