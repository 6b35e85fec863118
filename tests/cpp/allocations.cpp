// Replaces the global operator new. A file of its own: inlined into its callers, GCC warns of mismatched pairs.
#include "allocations.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<long> allocated{0};
std::atomic<long> fails_at{0};  // the count that fails

void count_one() {
  if (++allocated == fails_at) throw std::bad_alloc();
}
}  // namespace

long allocations::count() noexcept { return allocated; }
void allocations::fail_after(long calls) noexcept { fails_at = calls == 0 ? 0 : allocated + calls; }

void* operator new(std::size_t size) {
  count_one();
  if (void* const p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  count_one();
  const auto align = static_cast<std::size_t>(alignment);
  if (void* const p = std::aligned_alloc(align, (size + align - 1) / align * align)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
