// Devices and errors.
#include <cstdio>
#include <cstdlib>

#include "machine.hpp"

using gpusim::Call;
using gpusim::Machine;
using gpusim::thread;

namespace {

struct ErrorName {
  cudaError_t code;
  const char* name;
  const char* text;
};

constexpr ErrorName kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
};

const ErrorName* find(cudaError_t error) {
  for (const ErrorName& entry : kErrors) {
    if (entry.code == error) return &entry;
  }
  return nullptr;
}

/// Why there is no device, from GPUSIM_NO_DEVICE: a code as cudaGetDeviceCount gives it without a driver.
cudaError_t absence() {
  const char* const code = std::getenv("GPUSIM_NO_DEVICE");
  return code == nullptr ? cudaSuccess : static_cast<cudaError_t>(std::atoi(code));
}

}  // namespace

GPUSIM_API cudaError_t cudaGetDeviceCount(int* count) {
  const Call call("cudaGetDeviceCount", Call::Kind::kGlobal);
  *count = 0;
  if (call.refused()) return call.result();
  if (absence() != cudaSuccess) return Call::done(absence());
  *count = Machine::get().device_count;
  return *count > 0 ? cudaSuccess : Call::done(cudaErrorNoDevice);
}

GPUSIM_API cudaError_t cudaGetDevice(int* device) {
  const Call call("cudaGetDevice", Call::Kind::kGlobal);
  if (call.refused()) return call.result();
  *device = thread().device;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaSetDevice(int device) {
  const Call call("cudaSetDevice", Call::Kind::kGlobal);
  call.note(std::to_string(device));
  if (call.refused()) return call.result();
  if (device < 0 || device >= Machine::get().device_count) return Call::done(cudaErrorInvalidDevice);
  thread().device = device;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const Call call("cudaGetDeviceProperties", Call::Kind::kGlobal);
  if (call.refused()) return call.result();
  if (device < 0 || device >= Machine::get().device_count) return Call::done(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "Simulated GPU %d", device);
  properties->totalGlobalMem = std::size_t{16} << 30U;
  properties->major = 8;
  properties->minor = 6;
  properties->multiProcessorCount = 40;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->sharedMemPerBlock = 48U << 10U;
  properties->sharedMemPerBlockOptin = 99U << 10U;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties{};
  const Call call("cudaDeviceGetAttribute", Call::Kind::kGlobal);
  if (call.refused()) return call.result();
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = properties.major; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = properties.minor; return cudaSuccess;
    case cudaDevAttrMultiProcessorCount: *value = properties.multiProcessorCount; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      return cudaSuccess;
    default: return Call::done(cudaErrorInvalidValue);
  }
}

GPUSIM_API cudaError_t cudaRuntimeGetVersion(int* version) {
  const Call call("cudaRuntimeGetVersion", Call::Kind::kGlobal);
  if (call.refused()) return call.result();
  *version = CUDART_VERSION;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaDriverGetVersion(int* version) {
  const Call call("cudaDriverGetVersion", Call::Kind::kGlobal);
  if (call.refused()) return call.result();
  *version = absence() == cudaSuccess ? CUDART_VERSION : 0;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaGetLastError() {
  const Call call("cudaGetLastError", Call::Kind::kQuery);
  const cudaError_t error = thread().last_error;
  const auto lost = Machine::get().lost.find(thread().device);
  thread().last_error = lost == Machine::get().lost.end() ? cudaSuccess : lost->second;  // a sticky error stays
  return error;
}

GPUSIM_API cudaError_t cudaPeekAtLastError() {
  const Call call("cudaPeekAtLastError", Call::Kind::kQuery);
  return thread().last_error;
}

GPUSIM_API const char* cudaGetErrorName(cudaError_t error) {
  const Call call("cudaGetErrorName", Call::Kind::kQuery);
  const ErrorName* const entry = find(error);
  return entry == nullptr ? "cudaErrorUnnamedByGpusim" : entry->name;
}

GPUSIM_API const char* cudaGetErrorString(cudaError_t error) {
  const Call call("cudaGetErrorString", Call::Kind::kQuery);
  const ErrorName* const entry = find(error);
  return entry == nullptr ? "an error that the stand-in runtime has no words for" : entry->text;
}
