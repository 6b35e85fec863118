#include "swiftdet/cuda/memory.hpp"

#include <cuda_runtime_api.h>

#include <utility>

#include "cuda/check.hpp"
#include "cuda/release.hpp"
#include "swiftdet/cuda/device.hpp"

namespace swiftdet::cuda {

std::size_t free_memory() {
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  return free_bytes;
}

DeviceBuffer::DeviceBuffer(int device, std::size_t bytes) : device_(device), bytes_(bytes) {
  if (bytes == 0) return;
  const DeviceGuard guard(device);
  void* d_block = nullptr;
  check(cudaMalloc(&d_block, bytes), "cudaMalloc", bytes);
  d_data_ = static_cast<std::byte*>(d_block);
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : device_(other.device_), d_data_(std::exchange(other.d_data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(d_data_, other.d_data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

DeviceBuffer::~DeviceBuffer() {
  if (d_data_ != nullptr) release_on(device_, [this] { return cudaFree(d_data_); });
}

PinnedBuffer::PinnedBuffer(int device, std::size_t bytes) : device_(device), bytes_(bytes) {
  if (bytes == 0) return;
  const DeviceGuard guard(device);
  void* block = nullptr;
  check(cudaMallocHost(&block, bytes), "cudaMallocHost", bytes);
  data_ = static_cast<std::byte*>(block);
}

// Not run in tests: pinned buffers move by assignment alone.
PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : device_(other.device_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ != nullptr) release_on(device_, [this] { return cudaFreeHost(data_); });
}

}  // namespace swiftdet::cuda
