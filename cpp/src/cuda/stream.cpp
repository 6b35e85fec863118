#include "swiftdet/cuda/stream.hpp"

#include <cuda_runtime_api.h>

#include "cuda/check.hpp"
#include "cuda/release.hpp"
#include "swiftdet/cuda/device.hpp"

namespace swiftdet::cuda {

Stream::Stream(int device) : device_(device) {
  const DeviceGuard guard(device);
  SWIFTDET_CHECK_CUDA(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking));
}

Stream::~Stream() {
  release_on(device_, [this] { return cudaStreamDestroy(handle_); });
}

void Stream::copy_to_device(void* d_target, const void* source, std::size_t bytes) const {
  SWIFTDET_CHECK_CUDA(cudaMemcpyAsync(d_target, source, bytes, cudaMemcpyHostToDevice, handle_));
}

void Stream::copy_to_host(void* target, const void* d_source, std::size_t bytes) const {
  SWIFTDET_CHECK_CUDA(cudaMemcpyAsync(target, d_source, bytes, cudaMemcpyDeviceToHost, handle_));
}

void Stream::synchronize() const { SWIFTDET_CHECK_CUDA(cudaStreamSynchronize(handle_)); }

void Stream::synchronize_no_throw() const noexcept { ignore(cudaStreamSynchronize(handle_)); }

}  // namespace swiftdet::cuda
