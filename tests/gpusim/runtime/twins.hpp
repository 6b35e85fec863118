// Between the stand-in runtime and the library that holds the kernels compiled for the CPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>

namespace gpusim {

/// gpusim_bind_twin: copies a launch's arguments and returns the work of its whole grid; empty if no kernel has this
/// demangled name.
using BindTwin = std::function<void()> (*)(const char* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                                           void** arguments);

}  // namespace gpusim
