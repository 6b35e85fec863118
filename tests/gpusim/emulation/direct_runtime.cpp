// The few calls of the CUDA runtime that the launch functions make, carried out at once and on host memory.
#include <cuda_runtime_api.h>

#include <cstring>

#include "emulation/block.hpp"
#include "emulation/kernel_registry.hpp"

extern "C" {

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                             cudaStream_t /*stream*/) {
  const emulation::Twin* const twin = emulation::find_twin(function);
  if (twin == nullptr) return cudaErrorInvalidDeviceFunction;
  twin->bind({grid, block, shared_bytes}, arguments)();
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t /*stream*/) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}

}  // extern "C"
