// A stack of its own and the switch between two of them, with what the sanitizers want to be told.
#pragma once

#include <cstddef>

namespace emulation {

/// The sanitizers' view of a fiber is built in where SWIFTDET_EMULATION_ASAN or SWIFTDET_EMULATION_TSAN is defined.
struct Fiber {
  void* stack_pointer = nullptr;
  void* stack = nullptr;  ///< lowest address
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;
  void* race_detector = nullptr;
};

/// A fiber that begins in `entry`, which must never return.
Fiber* create_fiber(void (*entry)());

/// Makes `fiber`, which has no stack yet, stand for the calling thread.
void adopt_thread(Fiber& fiber);

/// Leaves `from` and goes on in `to`; returns when something switches back to `from`.
void switch_fiber(Fiber& from, Fiber& to);

/// To be called first in a fiber's entry.
void enter_fiber();

// What happens after acquire(tag) in one fiber comes after what happened before release(tag) in another.
void release(void* tag);
void acquire(void* tag);

}  // namespace emulation
