// CUDA devices: what is there, and which one the calling thread works on.
#pragma once

#include <cstddef>
#include <string>

namespace swiftdet::cuda {

struct DeviceInfo {
  int index = 0;
  std::string name;
  int compute_major = 0;  ///< "SM 8.6" is 8 and 6
  int compute_minor = 0;
  std::size_t memory_bytes = 0;
};

/// The driver's and this build's CUDA version, as 1000 * major + 10 * minor; the driver's is 0 where there is none.
struct Versions {
  int driver = 0;
  int runtime = 0;
};
[[nodiscard]] Versions versions();

/// How many devices CUDA sees. @throw BackendUnavailable  none, no driver, or one too old; says which and what to do.
[[nodiscard]] int device_count();

/// @throw BackendUnavailable  as device_count(), or no device of that index.
void check_device(int device);

/// @throw BackendUnavailable  as check_device(); CudaError  the device does not answer.
[[nodiscard]] DeviceInfo device_info(int device);

/// The device whose memory holds `pointer`; -1 where it is memory of none. @throw CudaError
[[nodiscard]] int device_of(const void* pointer);

/// Makes `device` the calling thread's current one for a scope, then restores what was. Every entry into CUDA code
/// stands under one: the caller's thread may have chosen another device.
class DeviceGuard {
 public:
  /// @throw CudaError  the device cannot be chosen.
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

}  // namespace swiftdet::cuda
