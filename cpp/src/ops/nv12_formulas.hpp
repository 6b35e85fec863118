// YCbCr to RGB, as cv2.cvtColor(COLOR_YUV2RGB_NV12) does it: shared by every body and device.
#pragma once

#include <cstdint>

#include "swiftdet/base/host_device.hpp"

namespace swiftdet::ops {

/// Bytes, as ints.
struct Rgb {
  int r = 0;
  int g = 0;
  int b = 0;
};

/// BT.601 with luma 16 to 235 and chroma 16 to 240, in integers of 20 fraction bits, rounded half up, clipped to
/// 0..255. Luma below 16 counts as 16.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr Rgb rgb_from_ycbcr(int luma, int cb, int cr) noexcept {
  constexpr int kBits = 20;
  constexpr int kHalf = 1 << (kBits - 1);
  constexpr int kLuma = 1220542;  // 255 / 219
  constexpr int kCrToR = 1673527;
  constexpr int kCrToG = -852492;
  constexpr int kCbToG = -409993;
  constexpr int kCbToB = 2116026;
  const int y = (luma > 16 ? luma - 16 : 0) * kLuma;
  const int u = cb - 128;
  const int v = cr - 128;
  const int r = (y + kHalf + kCrToR * v) >> kBits;
  const int g = (y + kHalf + kCrToG * v + kCbToG * u) >> kBits;
  const int b = (y + kHalf + kCbToB * u) >> kBits;
  const auto clip = [](int value) { return value < 0 ? 0 : (value > 255 ? 255 : value); };
  return {clip(r), clip(g), clip(b)};
}

}  // namespace swiftdet::ops
