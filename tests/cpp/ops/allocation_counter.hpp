// Counts every allocation of the test program that includes this header (in one source file: it replaces operator new).
#pragma once

#include <atomic>
#include <cstdlib>
#include <new>

namespace swiftdet::test {

inline std::atomic<long> allocation_count{0};

}  // namespace swiftdet::test

// Not inlined, or GCC sees free() at the end of a new expression and warns of a mismatch that is none.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++swiftdet::test::allocation_count;
  if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
