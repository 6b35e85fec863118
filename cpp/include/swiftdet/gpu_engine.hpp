// What a network engine on a GPU must offer the pipeline. Engines know nothing of images or boxes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "swiftdet/base/size.hpp"
#include "swiftdet/base/tensor_view.hpp"
#include "swiftdet/cuda/stream.hpp"

namespace swiftdet {

enum class GpuElement : std::uint8_t { kFloat32, kFloat16 };

[[nodiscard]] constexpr std::size_t element_bytes(GpuElement type) noexcept {
  return type == GpuElement::kFloat32 ? 4 : 2;
}

/// A named input or output, contiguous in device memory. Dynamic dimensions are -1.
struct GpuPort {
  std::string name;
  Shape shape;
  GpuElement type = GpuElement::kFloat32;
};

/// One execution context of an engine, for an input of one shape. One thread at a time, with the engine's device
/// current at every call and at its end; dies before its engine.
class GpuContext {
 public:
  virtual ~GpuContext() = default;
  GpuContext() = default;
  GpuContext(const GpuContext&) = delete;
  GpuContext& operator=(const GpuContext&) = delete;

  /// Shapes of the outputs, in the order of GpuEngine::outputs(); static.
  [[nodiscard]] virtual const std::vector<Shape>& output_shapes() const noexcept = 0;
  /// Where the network reads and writes: device memory, 256-byte aligned, that outlives the context.
  virtual void set_input_address(void* d_input) = 0;
  virtual void set_output_address(std::size_t index, void* d_output) = 0;
  /// Queues one run. After one run outside a capture, most networks can be captured; one that cannot fails here or
  /// makes the capture's end fail, and the stream is usable again once the capture has ended.
  /// @throw BackendError  the engine's own words.
  virtual void enqueue(cuda::StreamHandle stream) = 0;
};

/// A network made ready for one device: immutable, shared by all contexts, safe from several threads.
class GpuEngine {
 public:
  virtual ~GpuEngine() = default;
  GpuEngine() = default;
  GpuEngine(const GpuEngine&) = delete;
  GpuEngine& operator=(const GpuEngine&) = delete;

  [[nodiscard]] virtual int device() const noexcept = 0;
  /// The image input [N, 3, H, W].
  [[nodiscard]] virtual const GpuPort& input() const noexcept = 0;
  [[nodiscard]] virtual const std::vector<GpuPort>& outputs() const noexcept = 0;
  /// The fewest and the most images of `size` that one run takes; {0, 0}: this size cannot be run.
  struct BatchRange {
    std::int64_t least = 0;
    std::int64_t most = 0;
  };
  [[nodiscard]] virtual BatchRange batch_range(Size size) const noexcept = 0;
  /// Inputs [N, 3, H, W] that it was built for: each between `least` and `most` in every dimension.
  struct Profile {
    Shape least;
    Shape most;
  };
  [[nodiscard]] virtual std::vector<Profile> profiles() const = 0;
  /// Device memory that a context takes for itself, beyond its inputs and outputs; the most of any shape.
  [[nodiscard]] virtual std::size_t context_bytes() const noexcept = 0;
  /// "TensorRT 10.14.1, NVIDIA T4 (cuda:0)": for provenance.
  [[nodiscard]] virtual std::string description() const = 0;

  /// A context for an input of exactly `shape` [N, 3, H, W]; what it sets up on the device is queued on `stream`.
  /// @throw InvalidArgument  the network cannot take that shape; BackendError, OutOfMemory.
  [[nodiscard]] virtual std::unique_ptr<GpuContext> create_context(const Shape& shape,
                                                                   cuda::StreamHandle stream) const = 0;
};

}  // namespace swiftdet
