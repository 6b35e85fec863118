// A queue of work on one device.
#pragma once

#include <cstddef>

struct CUstream_st;  // what CUDA's cudaStream_t points to

namespace swiftdet::cuda {

using StreamHandle = CUstream_st*;

/// Owns a stream that does not wait for the default stream's work, which belongs to other libraries.
///
/// Every call needs the stream's device to be current (DeviceGuard).
class Stream {
 public:
  /// @throw CudaError
  explicit Stream(int device);
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();

  [[nodiscard]] StreamHandle handle() const noexcept { return handle_; }
  [[nodiscard]] int device() const noexcept { return device_; }

  /// Queue a copy and return; pinned host memory must stay as it is until the stream has run.
  void copy_to_device(void* d_target, const void* source, std::size_t bytes) const;
  void copy_to_host(void* target, const void* d_source, std::size_t bytes) const;

  /// Blocks until the stream has run all its work. @throw CudaError  also for work that failed on the device.
  void synchronize() const;
  /// The same where errors are of no more interest.
  void synchronize_no_throw() const noexcept;

 private:
  int device_;
  StreamHandle handle_ = nullptr;
};

}  // namespace swiftdet::cuda
