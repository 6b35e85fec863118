// The TensorRT engine: plans for NVIDIA GPUs, through TensorRT's C++ runtime, loaded at run time.
//
// libnvinfer is never linked. Its binary interface changes with each major release, so what is compiled against it is a
// shared object of its own per major release, beside this library; the one that fits is opened after the version was
// asked.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "swiftdet/gpu_engine.hpp"

namespace swiftdet::tensorrt {

/// One loaded libnvinfer. Process-wide for a given path; safe from several threads.
class Runtime {
 public:
  virtual ~Runtime() = default;
  Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Loads `libnvinfer` and, from `module_dir`, the module that was compiled for its major release. The driver and the
  /// version are checked before any call that could crash without them.
  /// @throw BackendUnavailable  no driver or GPU, the library does not load, or its major release was not compiled in.
  static std::shared_ptr<const Runtime> load(const std::filesystem::path& libnvinfer,
                                             const std::filesystem::path& module_dir);

  [[nodiscard]] virtual std::string version() const = 0;
  /// Makes an engine of a serialised plan on `device`. A plan may hold code of its own: only give it what is trusted.
  /// Host code inside plans stays forbidden all the same.
  /// @throw ModelError  not a plan, one of another TensorRT or GPU, or its input or outputs are not a detector's;
  ///                    BackendUnavailable  no such device; CudaError.
  [[nodiscard]] virtual std::shared_ptr<const GpuEngine> deserialize(std::span<const std::byte> plan,
                                                                     int device) const = 0;
};

}  // namespace swiftdet::tensorrt
