// The kernels compiled for the CPU, as a library that the stand-in runtime loads.
#include "twins.hpp"

#include "emulation/kernel_registry.hpp"
#include "runtime/control.hpp"

// NOLINTNEXTLINE(clang-diagnostic-return-type-c-linkage): both sides are C++ of one build
GPUSIM_API std::function<void()> gpusim_bind_twin(const char* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                                                  void** arguments) {
  const emulation::Twin* const twin = emulation::find_twin_named(kernel);
  if (twin == nullptr) return {};
  return twin->bind({grid, block, shared_bytes}, arguments);
}
