// Releasing what belongs to a device, in destructors.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/check.hpp"

namespace swiftdet::cuda {

/// Calls `release` with `device` current and restores what was; fails silently, as a destructor must. Where the device
/// cannot be chosen it is tried all the same: not every release needs it.
template <typename Release>
void release_on(int device, const Release& release) noexcept {
  int before = device;
  ignore(cudaGetDevice(&before));
  if (before != device) ignore(cudaSetDevice(device));
  ignore(release());
  if (before != device) ignore(cudaSetDevice(before));
}

}  // namespace swiftdet::cuda
