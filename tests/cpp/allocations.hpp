// Counts the heap allocations of a test program that is linked with allocations.cpp.
#pragma once

namespace allocations {

/// Calls of operator new since the program began, from all threads.
[[nodiscard]] long count() noexcept;

}  // namespace allocations
