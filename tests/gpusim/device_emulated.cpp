#include <cstdlib>
#include <new>

#include "device.hpp"
#include "emulation/block.hpp"

namespace swiftdet::testing {

DeviceMemory::DeviceMemory(std::size_t bytes) {
  constexpr std::size_t kAlignment = 256;
  if (posix_memalign(&memory_, kAlignment, bytes == 0 ? 1 : bytes) != 0) throw std::bad_alloc();
  std::memset(memory_, 0xCD, bytes);
}

DeviceMemory::~DeviceMemory() { std::free(memory_); }  // NOLINT(cppcoreguidelines-no-malloc): posix_memalign's twin

int schedules() { return 3; }

void use_schedule(int schedule) { emulation::set_schedule(static_cast<emulation::Schedule>(schedule)); }

bool finish() { return true; }

}  // namespace swiftdet::testing
