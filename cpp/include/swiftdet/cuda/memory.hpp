// Owners of device memory and of pinned host memory.
#pragma once

#include <cstddef>

namespace swiftdet::cuda {

/// Bytes that the current device could still give. @throw CudaError
[[nodiscard]] std::size_t free_memory();

/// Uninitialised memory of one device, at least 256-byte aligned. Freed on its own device, whichever is current then.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  /// @throw OutOfMemory, CudaError. 0 bytes own nothing.
  DeviceBuffer(int device, std::size_t bytes);
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer();

  [[nodiscard]] std::byte* d_data() const noexcept { return d_data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  int device_ = 0;
  std::byte* d_data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Uninitialised page-locked host memory, which devices copy from and to without the host's help.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  /// @throw OutOfMemory, CudaError. 0 bytes own nothing.
  PinnedBuffer(int device, std::size_t bytes);
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  ~PinnedBuffer();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  int device_ = 0;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace swiftdet::cuda
