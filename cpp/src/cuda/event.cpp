#include "swiftdet/cuda/event.hpp"

#include <cuda_runtime_api.h>

#include "cuda/check.hpp"
#include "cuda/release.hpp"
#include "swiftdet/cuda/device.hpp"

namespace swiftdet::cuda {

Event::Event(int device, Purpose purpose) : device_(device) {
  const DeviceGuard guard(device);
  const unsigned flags = purpose == Purpose::kOrder ? cudaEventDisableTiming : cudaEventDefault;
  SWIFTDET_CHECK_CUDA(cudaEventCreateWithFlags(&handle_, flags));
}

Event::~Event() {
  release_on(device_, [this] { return cudaEventDestroy(handle_); });
}

void Event::record(StreamHandle stream) const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  SWIFTDET_CHECK_CUDA(cudaStreamIsCapturing(stream, &status));
  // Without "external" a captured record only orders the graph's own nodes and marks nothing.
  const unsigned flags = status == cudaStreamCaptureStatusNone ? cudaEventRecordDefault : cudaEventRecordExternal;
  SWIFTDET_CHECK_CUDA(cudaEventRecordWithFlags(handle_, stream, flags));
}

void Event::make_wait(StreamHandle stream) const { SWIFTDET_CHECK_CUDA(cudaStreamWaitEvent(stream, handle_, 0)); }

float Event::milliseconds_since(const Event& begin) const {
  float milliseconds = 0.0F;
  SWIFTDET_CHECK_CUDA(cudaEventElapsedTime(&milliseconds, begin.handle_, handle_));
  return milliseconds;
}

}  // namespace swiftdet::cuda
