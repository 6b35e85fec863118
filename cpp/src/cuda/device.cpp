#include "swiftdet/cuda/device.hpp"

#include <cuda_runtime_api.h>

#include <string>

#include "cuda/check.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/base/process.hpp"

namespace swiftdet::cuda {
namespace {

std::string dotted(int version) { return std::to_string(version / 1000) + '.' + std::to_string(version % 1000 / 10); }

}  // namespace

Versions versions() {
  Versions found;
  ignore(cudaDriverGetVersion(&found.driver));
  ignore(cudaRuntimeGetVersion(&found.runtime));
  return found;
}

int device_count() {
  static const OwnProcess first_user;  // the driver starts with the first question, and does not survive a fork
  first_user.check("CUDA was used");
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count;
  ignore(error);
  const Versions found = versions();
  if (error == cudaErrorInsufficientDriver || found.driver == 0) {
    throw BackendUnavailable((found.driver == 0 ? std::string("no NVIDIA driver was found")
                                                : "the NVIDIA driver supports CUDA " + dotted(found.driver)) +
                             "; this build needs one for CUDA " + dotted(found.runtime) +
                             " or newer: install or update the driver");
  }
  if (error == cudaErrorNoDevice || error == cudaSuccess) {
    throw BackendUnavailable("the NVIDIA driver sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES");
  }
  throw BackendUnavailable(std::string("CUDA does not start: ") + cudaGetErrorName(error) + ", " +
                           cudaGetErrorString(error) + "; check nvidia-smi");
}

void check_device(int device) {
  const int count = device_count();
  if (device < 0 || device >= count) {
    throw BackendUnavailable("device cuda:" + std::to_string(device) + ": this machine has " + std::to_string(count) +
                             (count == 1 ? " GPU, cuda:0" : " GPUs, cuda:0 to cuda:" + std::to_string(count - 1)));
  }
}

DeviceInfo device_info(int device) {
  check_device(device);
  cudaDeviceProp properties{};
  SWIFTDET_CHECK_CUDA(cudaGetDeviceProperties(&properties, device));
  return {.index = device,
          .name = static_cast<const char*>(properties.name),
          .compute_major = properties.major,
          .compute_minor = properties.minor,
          .memory_bytes = properties.totalGlobalMem};
}

int device_of(const void* pointer) {
  cudaPointerAttributes attributes{};
  SWIFTDET_CHECK_CUDA(cudaPointerGetAttributes(&attributes, pointer));
  const bool readable = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return readable ? attributes.device : -1;
}

DeviceGuard::DeviceGuard(int device) {
  SWIFTDET_CHECK_CUDA(cudaGetDevice(&before_));
  if (before_ == device) return;
  SWIFTDET_CHECK_CUDA(cudaSetDevice(device));
  changed_ = true;
}

DeviceGuard::~DeviceGuard() {
  if (changed_) ignore(cudaSetDevice(before_));
}

}  // namespace swiftdet::cuda
