#include "emulation/fiber.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(SWIFTDET_EMULATION_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(SWIFTDET_EMULATION_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

#if !defined(__x86_64__)
#error "the switch of stacks below is written for x86-64"
#endif

// Saves what a called function must preserve, changes the stack, restores.
asm(R"(
.pushsection .text
.type swiftdet_switch_stack, @function
swiftdet_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size swiftdet_switch_stack, .-swiftdet_switch_stack
.popsection
)");
extern "C" void swiftdet_switch_stack(void** save_here, void* go_on_there);

namespace emulation {
namespace {

constexpr std::size_t kStackBytes = std::size_t{256} << 10U;
constexpr std::size_t kGuardBytes = 4096;
constexpr std::size_t kSavedRegisters = 6;

#if defined(SWIFTDET_EMULATION_ASAN)
struct Stack {
  void* lowest = nullptr;
  std::size_t bytes = 0;
};

Stack stack_of_this_thread() {
  Stack stack;
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &stack.lowest, &stack.bytes);
  pthread_attr_destroy(&attributes);
  return stack;
}
#endif

}  // namespace

Fiber* create_fiber(void (*entry)()) {
  auto* const fiber = new Fiber;
  void* const stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED || mprotect(stack, kGuardBytes, PROT_NONE) != 0) {
    std::perror("emulation: no memory for a fiber's stack");
    std::abort();
  }
  fiber->stack = stack;
  fiber->stack_bytes = kStackBytes;
  // As if `entry` had been called with an aligned stack, and had been switched away from at once.
  auto* top = reinterpret_cast<std::uintptr_t*>(static_cast<unsigned char*>(stack) + kStackBytes) - 2;
  *top = reinterpret_cast<std::uintptr_t>(entry);
  top -= kSavedRegisters;
  std::memset(top, 0, kSavedRegisters * sizeof *top);
  fiber->stack_pointer = top;
#if defined(SWIFTDET_EMULATION_TSAN)
  fiber->race_detector = __tsan_create_fiber(0);
#endif
  return fiber;
}

void adopt_thread([[maybe_unused]] Fiber& fiber) {
#if defined(SWIFTDET_EMULATION_ASAN)
  thread_local const Stack stack = stack_of_this_thread();  // reads /proc: once, not for every grid
  fiber.stack = stack.lowest;
  fiber.stack_bytes = stack.bytes;
#endif
#if defined(SWIFTDET_EMULATION_TSAN)
  fiber.race_detector = __tsan_get_current_fiber();
#endif
}

void switch_fiber(Fiber& from, Fiber& to) {
  if (&from == &to) return;
#if defined(SWIFTDET_EMULATION_ASAN)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(SWIFTDET_EMULATION_TSAN)
  __tsan_switch_to_fiber(to.race_detector, __tsan_switch_to_fiber_no_sync);
#endif
  swiftdet_switch_stack(&from.stack_pointer, to.stack_pointer);
#if defined(SWIFTDET_EMULATION_ASAN)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void enter_fiber() {
#if defined(SWIFTDET_EMULATION_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void release([[maybe_unused]] void* tag) {
#if defined(SWIFTDET_EMULATION_TSAN)
  __tsan_release(tag);
#endif
}

void acquire([[maybe_unused]] void* tag) {
#if defined(SWIFTDET_EMULATION_TSAN)
  __tsan_acquire(tag);
#endif
}

}  // namespace emulation
