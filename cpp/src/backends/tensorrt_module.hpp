// Between the package and libswiftdet_trt<major>.so, which alone is compiled against TensorRT's headers. Both come from
// one build, so C++ types may cross; nothing of TensorRT's does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "swiftdet/base/log.hpp"
#include "swiftdet/gpu_engine.hpp"

namespace swiftdet::tensorrt {

/// Where the messages go: swiftdet::log of the package. Called from any thread.
using LogSink = void (*)(Severity severity, const char* text) noexcept;

/// What the package found out about the library before the module is asked to use it.
struct Library {
  void* (*create_runtime)(void* logger, std::int32_t version) noexcept = nullptr;  ///< createInferRuntime_INTERNAL
  std::string version;                                                             ///< "10.14.1"
};

class Module {
 public:
  virtual ~Module() = default;
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// As Runtime::deserialize; `device` is current. `device_name` is for the engine's description.
  [[nodiscard]] virtual std::unique_ptr<const GpuEngine> deserialize(std::span<const std::byte> plan, int device,
                                                                     const std::string& device_name) = 0;
};

/// The one symbol that a module exports, as kOpenModule. @throw BackendError  TensorRT does not start.
using OpenModule = void (*)(const Library& library, LogSink sink, std::unique_ptr<Module>& module);
inline constexpr const char* kOpenModule = "swiftdet_open_tensorrt_module";

}  // namespace swiftdet::tensorrt
