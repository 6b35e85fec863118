// From a pixel's byte to the network's value, and from the network's box to the source image: shared by every body and
// device.
#pragma once

#include <cstdint>

#include "swiftdet/base/host_device.hpp"

namespace swiftdet::ops {

/// (u8 / divisor - mean) / std in float32, each step correctly rounded.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr float network_value(std::uint8_t value, float divisor, float mean,
                                                                 float std) noexcept {
  return (static_cast<float>(value) / divisor - mean) / std;
}

/// From network px to source px: x = (x_net - pad) / scale in float32, then clipped to [0, limit].
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr float to_source(float value, float pad, float scale,
                                                             float limit) noexcept {
  const float mapped = (value - pad) / scale;
  if (mapped < 0.0F) return 0.0F;
  return limit < mapped ? limit : mapped;
}

}  // namespace swiftdet::ops
