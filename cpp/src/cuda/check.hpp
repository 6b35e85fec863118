// CUDA's return codes become exceptions here, and nowhere else.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <source_location>

namespace swiftdet::cuda {

/// True for errors after which the device answers nothing any more in this process.
[[nodiscard]] bool is_sticky(cudaError_t error) noexcept;

/// @throw CudaError, OutOfMemory (with `bytes`)  unless `error` is success; the runtime's own memory of it is cleared.
void check(cudaError_t error, const char* call, std::size_t bytes = 0,
           std::source_location where = std::source_location::current());

/// For destructors: forgets a failure, which cannot be mended there, and leaves none for the next call to find.
void ignore(cudaError_t error) noexcept;

}  // namespace swiftdet::cuda

// NOLINTNEXTLINE(cppcoreguidelines-macro-usage): a function cannot quote its argument
#define SWIFTDET_CHECK_CUDA(call) ::swiftdet::cuda::check((call), #call)
