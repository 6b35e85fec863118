// The OpenVINO engine: networks on the CPU through OpenVINO's C API, loaded at run time from the installed wheel.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "swiftdet/backend.hpp"

namespace swiftdet::openvino {

/// LATENCY and THROUGHPUT are two compiled models: one call at a time as fast as possible, or many in flight.
enum class Performance : std::uint8_t { kLatency, kThroughput };

struct CompileOptions {
  Performance performance = Performance::kLatency;
  Shape input_shape{};                      ///< [N, 3, H, W], -1 where dynamic; empty: as in the file
  std::string inference_precision = "f32";  ///< the plugin's INFERENCE_PRECISION_HINT; never left to the plugin
  int num_threads = 0;                      ///< 0: the plugin's choice
  std::filesystem::path cache_dir{};        ///< compiled blobs; empty: no cache
};

/// The network as read, before it is compiled: what the recognition of heads looks at.
struct Signature {
  std::vector<Port> inputs;
  std::vector<Port> outputs;
};

/// One loaded OpenVINO library, its core, and what it reads and compiles. Process-wide for a given library folder.
class Runtime {
 public:
  virtual ~Runtime() = default;

  /// Loads `libopenvino_c` from `library_dir` (the wheel's `openvino/libs`); the same folder gives the same runtime.
  /// @throw BackendUnavailable  nothing there, or it does not load; says which package to install.
  static std::shared_ptr<Runtime> load(const std::filesystem::path& library_dir);

  [[nodiscard]] virtual std::string version() const = 0;
  [[nodiscard]] virtual std::vector<std::string> devices() const = 0;

  /// Reads an ONNX model from memory, or an IR (`xml` text plus `weights`), with `input_shape` applied if given.
  /// @throw ModelError  unreadable, with OpenVINO's own words.
  [[nodiscard]] virtual Signature inspect(std::span<const std::byte> model, std::span<const std::byte> weights,
                                          const Shape& input_shape) = 0;
  [[nodiscard]] virtual std::shared_ptr<const Backend> compile(std::span<const std::byte> model,
                                                               std::span<const std::byte> weights,
                                                               const CompileOptions& options) = 0;
};

}  // namespace swiftdet::openvino
