// Counts the heap allocations, and has them fail, of a test program that is linked with allocations.cpp.
#pragma once

namespace allocations {

/// Calls of operator new since the program began, from all threads.
[[nodiscard]] long count() noexcept;

/// The `calls`th call of operator new from now on throws std::bad_alloc, once; 0: none does. For one thread alone.
void fail_after(long calls) noexcept;

}  // namespace allocations
