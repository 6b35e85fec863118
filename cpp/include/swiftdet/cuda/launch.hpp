// The one way to launch a kernel: typed, without <<<>>>, so that the same source is compiled by nvcc and, in
// tests/gpusim, by a plain C++ compiler.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <type_traits>

#if defined(SWIFTDET_EMULATE_CUDA)
#include "emulation/kernel_registry.hpp"
#endif

namespace swiftdet::cuda {

/// Extent of a launch. Dynamic shared memory is declared in the kernel by SWIFTDET_DYNAMIC_SHARED.
struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
};

namespace detail {

template <typename... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), const LaunchShape& shape, cudaStream_t stream,
                   std::type_identity_t<Parameters>... arguments) {
  void* pointers[] = {static_cast<void*>(&arguments)...};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), shape.grid, shape.block, pointers, shape.shared_bytes,
                          stream);
}

}  // namespace detail

/// Enqueues kKernel on `stream`; arguments are converted to the kernel's parameter types and copied.
/// Neither synchronises nor allocates. Returns what cudaLaunchKernel said; an error of the kernel itself shows at a
/// later call.
template <auto kKernel, typename... Arguments>
[[nodiscard]] cudaError_t launch(const LaunchShape& shape, cudaStream_t stream, const Arguments&... arguments) {
#if defined(SWIFTDET_EMULATE_CUDA)
  emulation::announce<kKernel>();  // tests: gives this kernel a name by which the emulation finds it
#endif
  return detail::launch(kKernel, shape, stream, arguments...);
}

}  // namespace swiftdet::cuda

/// Declares `name` as the block's dynamic shared memory, an array of `type`. The emulation brings its own.
#if !defined(SWIFTDET_DYNAMIC_SHARED)
#define SWIFTDET_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif
