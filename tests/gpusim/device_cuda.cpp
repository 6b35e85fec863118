// The tests' device where there is one: managed memory, which the host may touch while no kernel runs.
#include <cuda_runtime_api.h>

#include <new>

#include "device.hpp"

namespace swiftdet::testing {

DeviceMemory::DeviceMemory(std::size_t bytes) {
  if (cudaMallocManaged(&memory_, bytes == 0 ? 1 : bytes) != cudaSuccess) throw std::bad_alloc();
  std::memset(memory_, 0xCD, bytes);
}

DeviceMemory::~DeviceMemory() { static_cast<void>(cudaFree(memory_)); }

int schedules() { return 1; }

void use_schedule(int /*schedule*/) {}

bool finish() { return cudaDeviceSynchronize() == cudaSuccess; }

}  // namespace swiftdet::testing
