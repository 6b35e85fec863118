// What nvcc's host code calls to register and launch kernels; a launch runs the kernel's twin, found by its name.
#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "machine.hpp"
#include "twins.hpp"

using gpusim::BindTwin;
using gpusim::Call;
using gpusim::Kernel;
using gpusim::Machine;
using gpusim::Stream;

namespace {

/// `swiftdet::ops::cuda::sort_kernel<float>` of a mangled name: what the twins are registered under.
std::string plain_name(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(mangled, nullptr, nullptr, &status), std::free);
  std::string name = text ? text.get() : mangled;
  // Template kernels come with a result type; parameters begin at the first bracket outside `(anonymous namespace)`.
  if (name.rfind("void ", 0) == 0) name.erase(0, 5);
  const std::string anonymous = "(anonymous namespace)::";
  for (auto at = name.find(anonymous); at != std::string::npos; at = name.find(anonymous))
    name.erase(at, anonymous.size());
  int depth = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    depth += name[i] == '<' ? 1 : name[i] == '>' ? -1 : 0;
    if (name[i] == '(' && depth == 0) {
      name.resize(i);
      break;
    }
  }
  return name;
}

/// The library of kernels compiled for the CPU, named by GPUSIM_TWINS.
BindTwin load_twins() {
  const char* const path = std::getenv("GPUSIM_TWINS");
  void* const library = path == nullptr ? nullptr : dlopen(path, RTLD_NOW | RTLD_LOCAL);
  void* const symbol = library == nullptr ? nullptr : dlsym(library, "gpusim_bind_twin");
  if (symbol == nullptr) {
    std::fprintf(stderr, "gpusim: GPUSIM_TWINS: %s\n", path == nullptr ? "not set" : dlerror());
    std::abort();
  }
  return reinterpret_cast<BindTwin>(symbol);
}

cudaError_t launch(const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                   cudaStream_t handle) {
  const Call call("cudaLaunchKernel");
  if (call.refused()) return call.result();
  Machine& machine = Machine::get();
  const auto kernel = machine.kernels.find(function);
  if (kernel == machine.kernels.end()) return Call::done(cudaErrorInvalidDeviceFunction);
  call.note(kernel->second.name);
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(handle, error);
  if (stream == nullptr) return Call::done(error);
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  const bool fits = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7FFFFFFFU && grid.y <= 65535 &&
                    grid.z <= 65535 && threads > 0 && threads <= 1024 && block.z <= 64;
  if (!fits) return Call::done(cudaErrorInvalidConfiguration);
  if (shared > kernel->second.max_dynamic_shared) return Call::done(cudaErrorInvalidValue);
  static const BindTwin bind = load_twins();
  std::function<void()> work = bind(kernel->second.name.c_str(), grid, block, shared, arguments);
  if (!work) {
    std::fprintf(stderr, "gpusim: no twin for kernel %s\n", kernel->second.name.c_str());
    return Call::done(cudaErrorNoKernelImageForDevice);
  }
  return Call::done(machine.submit(*stream, {std::move(work)}));
}

struct Configuration {
  dim3 grid;
  dim3 block;
  std::size_t shared;
  cudaStream_t stream;
};

std::vector<Configuration>& configurations() {
  static thread_local std::vector<Configuration> stack;
  return stack;
}

}  // namespace

GPUSIM_API void** __cudaRegisterFatBinary(void* binary) { return reinterpret_cast<void**>(new void*(binary)); }
GPUSIM_API void __cudaRegisterFatBinaryEnd(void** /*handle*/) {}
GPUSIM_API void __cudaUnregisterFatBinary(void** handle) { delete reinterpret_cast<void**>(handle); }
GPUSIM_API char __cudaInitModule(void** /*handle*/) { return 1; }

GPUSIM_API void __cudaRegisterFunction(void** /*handle*/, const char* host, char* /*device*/, const char* name,
                                       int /*limit*/, uint3* /*tid*/, uint3* /*bid*/, dim3* /*block*/, dim3* /*grid*/,
                                       int* /*warp*/) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  machine.kernels[host] = {plain_name(name)};
}

GPUSIM_API void __cudaRegisterVar(void** /*handle*/, char* /*host*/, char* /*device*/, const char* name,
                                  int /*external*/, size_t /*bytes*/, int /*constant*/, int /*global*/) {
  std::fprintf(stderr, "gpusim: __device__ variable %s: twins share no variables with the host\n", name);
  std::abort();
}

GPUSIM_API unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  configurations().push_back({grid, block, shared, stream});
  return 0;
}

GPUSIM_API cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  if (configurations().empty()) return cudaErrorMissingConfiguration;
  const Configuration top = configurations().back();
  configurations().pop_back();
  *grid = top.grid;
  *block = top.block;
  *shared = top.shared;
  *static_cast<cudaStream_t*>(stream) = top.stream;
  return cudaSuccess;
}

// A kernel's handle is the address of its host stub.
GPUSIM_API cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(
      const_cast<void*>(function));  // NOLINT(cppcoreguidelines-pro-type-const-cast): a handle
  return cudaSuccess;
}

GPUSIM_API cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                                          cudaStream_t stream) {
  return launch(reinterpret_cast<const void*>(kernel), grid, block, arguments, shared, stream);
}

GPUSIM_API cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                               size_t shared, cudaStream_t stream) {
  return launch(reinterpret_cast<const void*>(kernel), grid, block, arguments, shared, stream);
}

GPUSIM_API cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared,
                                        cudaStream_t stream) {
  return launch(function, grid, block, arguments, shared, stream);
}

GPUSIM_API cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  return launch(function, config->gridDim, config->blockDim, arguments, config->dynamicSmemBytes, config->stream);
}

GPUSIM_API cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const Call call("cudaFuncSetAttribute");
  if (call.refused()) return call.result();
  Machine& machine = Machine::get();
  const auto kernel = machine.kernels.find(function);
  if (kernel == machine.kernels.end()) return Call::done(cudaErrorInvalidDeviceFunction);
  constexpr int kMost = 99 << 10;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > kMost) {
    return Call::done(cudaErrorInvalidValue);
  }
  kernel->second.max_dynamic_shared = static_cast<std::size_t>(value);
  return cudaSuccess;
}
