// SPDX-License-Identifier: Apache-2.0
// Tells ThreadSanitizer what Debian's abseil does, which is not compiled with it: without this,
// whatever a mutex guards looks unguarded. Linked into every program built with --config=tsan,
// whose definitions of these functions come before the library's; each tells, and calls the
// library's.
//
// What is told: Lock, Unlock and their kin acquire and release the mutex; a wait (Await, CondVar)
// gives it up and takes it again; Notify happens before whoever sees the notification; the copies
// of a Status happen before the last of them frees what they share. The sanitizer ignores what
// happens inside the library's calls, such as conditions that one thread evaluates for another.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdint>
#include <cstdlib>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace {

// Of a shared lock, and of a lock that may not have been taken.
constexpr unsigned kRead = __tsan_mutex_read_lock;
constexpr unsigned kTry = __tsan_mutex_try_lock;
constexpr unsigned kTryFailed = __tsan_mutex_try_lock_failed;

void* Library(const char* symbol) {
  void* found = dlsym(RTLD_NEXT, symbol);
  if (found == nullptr) abort();
  return found;
}

// absl::Time and absl::Duration travel as they are declared, so the wrappers are declared with
// them.
struct TwelveBytes {
  int64_t seconds;
  uint32_t ticks;
};

}  // namespace

// The names are those of the installed package: a missing one aborts at the first call.
#define CCOE_SYMBOL(name) _ZN4absl7debian3##name
#define CCOE_TEXT2(x) #x
#define CCOE_TEXT(x) CCOE_TEXT2(x)
#define CCOE_REAL(type, name) \
  static const auto real = reinterpret_cast<type>(Library(CCOE_TEXT(CCOE_SYMBOL(name))))

#define CCOE_CONST_SYMBOL(name) _ZNK4absl7debian3##name
#define CCOE_CONST_REAL(type, name) \
  static const auto real = reinterpret_cast<type>(Library(CCOE_TEXT(CCOE_CONST_SYMBOL(name))))

extern "C" {

#define CCOE_LOCK(name, flags)               \
  void CCOE_SYMBOL(name)(void* mutex) {      \
    CCOE_REAL(void (*)(void*), name);        \
    __tsan_mutex_pre_lock(mutex, flags);     \
    real(mutex);                             \
    __tsan_mutex_post_lock(mutex, flags, 0); \
  }
#define CCOE_UNLOCK(name, flags)            \
  void CCOE_SYMBOL(name)(void* mutex) {     \
    CCOE_REAL(void (*)(void*), name);       \
    __tsan_mutex_pre_unlock(mutex, flags);  \
    real(mutex);                            \
    __tsan_mutex_post_unlock(mutex, flags); \
  }
#define CCOE_TRY_LOCK(name, flags)                                               \
  bool CCOE_SYMBOL(name)(void* mutex) {                                          \
    CCOE_REAL(bool (*)(void*), name);                                            \
    __tsan_mutex_pre_lock(mutex, (flags) | kTry);                                \
    const bool taken = real(mutex);                                              \
    __tsan_mutex_post_lock(mutex, (flags) | kTry | (taken ? 0 : kTryFailed), 0); \
    return taken;                                                                \
  }
CCOE_LOCK(5Mutex4LockEv, 0)
CCOE_UNLOCK(5Mutex6UnlockEv, 0)
CCOE_TRY_LOCK(5Mutex7TryLockEv, 0)
CCOE_LOCK(5Mutex10ReaderLockEv, kRead)
CCOE_UNLOCK(5Mutex12ReaderUnlockEv, kRead)
CCOE_TRY_LOCK(5Mutex13ReaderTryLockEv, kRead)

void CCOE_SYMBOL(5Mutex8LockWhenERKNS0_9ConditionE)(void* mutex, const void* condition) {
  CCOE_REAL(void (*)(void*, const void*), 5Mutex8LockWhenERKNS0_9ConditionE);
  __tsan_mutex_pre_lock(mutex, 0);
  real(mutex, condition);
  __tsan_mutex_post_lock(mutex, 0, 0);
}

#define CCOE_GIVE_UP(mutex)           \
  __tsan_mutex_pre_unlock(mutex, 0);  \
  __tsan_mutex_post_unlock(mutex, 0); \
  __tsan_mutex_pre_lock(mutex, 0)
#define CCOE_TAKE_AGAIN(mutex) __tsan_mutex_post_lock(mutex, 0, 0)

void CCOE_SYMBOL(5Mutex5AwaitERKNS0_9ConditionE)(void* mutex, const void* condition) {
  CCOE_REAL(void (*)(void*, const void*), 5Mutex5AwaitERKNS0_9ConditionE);
  CCOE_GIVE_UP(mutex);
  real(mutex, condition);
  CCOE_TAKE_AGAIN(mutex);
}
#define CCOE_AWAIT(name)                                                          \
  bool CCOE_SYMBOL(name)(void* mutex, const void* condition, TwelveBytes until) { \
    CCOE_REAL(bool (*)(void*, const void*, TwelveBytes), name);                   \
    CCOE_GIVE_UP(mutex);                                                          \
    const bool held = real(mutex, condition, until);                              \
    CCOE_TAKE_AGAIN(mutex);                                                       \
    return held;                                                                  \
  }
CCOE_AWAIT(5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE)
#define CCOE_LOCK_WHEN(name)                                                      \
  bool CCOE_SYMBOL(name)(void* mutex, const void* condition, TwelveBytes until) { \
    CCOE_REAL(bool (*)(void*, const void*, TwelveBytes), name);                   \
    __tsan_mutex_pre_lock(mutex, 0);                                              \
    const bool held = real(mutex, condition, until);                              \
    __tsan_mutex_post_lock(mutex, 0, 0);                                          \
    return held;                                                                  \
  }
CCOE_LOCK_WHEN(5Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE)

void CCOE_SYMBOL(7CondVar4WaitEPNS0_5MutexE)(void* self, void* mutex) {
  CCOE_REAL(void (*)(void*, void*), 7CondVar4WaitEPNS0_5MutexE);
  CCOE_GIVE_UP(mutex);
  real(self, mutex);
  CCOE_TAKE_AGAIN(mutex);
}
#define CCOE_COND_WAIT(name)                                           \
  bool CCOE_SYMBOL(name)(void* self, void* mutex, TwelveBytes until) { \
    CCOE_REAL(bool (*)(void*, void*, TwelveBytes), name);              \
    CCOE_GIVE_UP(mutex);                                               \
    const bool timed_out = real(self, mutex, until);                   \
    CCOE_TAKE_AGAIN(mutex);                                            \
    return timed_out;                                                  \
  }
CCOE_COND_WAIT(7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE)

// A notification is a mutex and, behind it, the flag that readers load.
#define CCOE_FLAG(self) (static_cast<char*>(self) + sizeof(absl::Mutex))
static_assert(sizeof(absl::Mutex) == 8 && sizeof(absl::Notification) == 16);
void CCOE_SYMBOL(12Notification6NotifyEv)(void* self) {
  CCOE_REAL(void (*)(void*), 12Notification6NotifyEv);
  __tsan_release(CCOE_FLAG(self));
  real(self);
}
void CCOE_CONST_SYMBOL(12Notification19WaitForNotificationEv)(void* self) {
  CCOE_CONST_REAL(void (*)(void*), 12Notification19WaitForNotificationEv);
  real(self);
  __tsan_acquire(CCOE_FLAG(self));
}
#define CCOE_WAIT_FOR(name)                                     \
  bool CCOE_CONST_SYMBOL(name)(void* self, TwelveBytes until) { \
    CCOE_CONST_REAL(bool (*)(void*, TwelveBytes), name);        \
    const bool notified = real(self, until);                    \
    __tsan_acquire(CCOE_FLAG(self));                            \
    return notified;                                            \
  }
CCOE_WAIT_FOR(12Notification30WaitForNotificationWithTimeoutENS0_8DurationE)
CCOE_WAIT_FOR(12Notification31WaitForNotificationWithDeadlineENS0_4TimeE)

bool CCOE_SYMBOL(15BlockingCounter14DecrementCountEv)(void* self) {
  CCOE_REAL(bool (*)(void*), 15BlockingCounter14DecrementCountEv);
  __tsan_release(self);
  return real(self);
}
void CCOE_SYMBOL(15BlockingCounter4WaitEv)(void* self) {
  CCOE_REAL(void (*)(void*), 15BlockingCounter4WaitEv);
  real(self);
  __tsan_acquire(self);
}

void CCOE_SYMBOL(6Status15UnrefNonInlinedEm)(uintptr_t rep) {
  CCOE_REAL(void (*)(uintptr_t), 6Status15UnrefNonInlinedEm);
  __tsan_release(reinterpret_cast<void*>(rep));
  __tsan_acquire(reinterpret_cast<void*>(rep));
  real(rep);
}

}  // extern "C"
