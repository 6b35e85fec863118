// A network of our own in TensorRT's place: no weights, a head of Ultralytics' layout, values that depend on the
// pixels. It makes the whole graph of a call run on hosts without TensorRT, and its results can be computed on the CPU
// too.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "swiftdet/backend.hpp"
#include "swiftdet/base/host_device.hpp"
#include "swiftdet/gpu_engine.hpp"
#include "swiftdet/ops/head.hpp"

namespace swiftdet::bench {

inline constexpr int kClasses = 80;
inline constexpr int kValues = 4 + kClasses;

/// Sides of the input, a multiple of 32, and what follows from them: one prediction per cell of three maps.
struct NetworkSize {
  int height = 640;
  int width = 640;

  [[nodiscard]] SWIFTDET_HOST_DEVICE int cells(int stride) const { return (height / stride) * (width / stride); }
  [[nodiscard]] SWIFTDET_HOST_DEVICE int predictions() const { return cells(8) + cells(16) + cells(32); }
};

/// Value `value` of prediction `cell`: a box round the cell's centre, as large as its pixel's red and green say; of all
/// scores a few, spread by a hash, are its blue, the others a fifth of that. `image` is [3, height, width].
SWIFTDET_HOST_DEVICE inline float network_value(const float* image, NetworkSize size, int cell, int value) {
  int stride = 8;
  int place = cell;
  while (place >= size.cells(stride)) {
    place -= size.cells(stride);
    stride *= 2;
  }
  const int columns = size.width / stride;
  const int x = (place % columns) * stride + stride / 2;
  const int y = (place / columns) * stride + stride / 2;
  const auto pixel = [&](int plane) { return image[(plane * size.height + y) * size.width + x]; };
  switch (value) {
    case 0: return static_cast<float>(x);
    case 1: return static_cast<float>(y);
    case 2: return static_cast<float>(stride) * (1.0F + 3.0F * pixel(0));
    case 3: return static_cast<float>(stride) * (1.0F + 3.0F * pixel(1));
    default: break;
  }
  const std::uint32_t mixed =
      (static_cast<std::uint32_t>(cell) * 2654435761U) ^ (static_cast<std::uint32_t>(value) * 2246822519U);
  const bool chosen = ((mixed * 3266489917U) >> 20U) < 2U;  // 2 of 4096
  return chosen ? pixel(2) : 0.2F * pixel(2);
}

/// Enqueues the network: d_input float32 [batch, 3, height, width] to d_output [batch, kValues, predictions].
[[nodiscard]] cudaError_t launch_network(const float* d_input, float* d_output, NetworkSize size, std::int32_t batch,
                                         cudaStream_t stream);

/// "output" [N, 84, P], boxes cx cy w h, scores no logits.
[[nodiscard]] ops::HeadSpec network_head();
[[nodiscard]] std::shared_ptr<const GpuEngine> gpu_network(int device, NetworkSize size);
/// The same values from the same formula, on the CPU.
[[nodiscard]] std::shared_ptr<const Backend> cpu_network(NetworkSize size);

}  // namespace swiftdet::bench
