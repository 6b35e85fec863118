// When one box suppresses another: shared by every body and device.
#pragma once

#include "swiftdet/base/host_device.hpp"

namespace swiftdet::ops {

[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr float lower(float a, float b) noexcept { return a < b ? a : b; }
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr float higher(float a, float b) noexcept { return a > b ? a : b; }

/// A box with its area, (x2 - x1) * (y2 - y1).
struct SizedBox {
  float x1;
  float y1;
  float x2;
  float y2;
  float area;
};

[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr SizedBox sized_box(float x1, float y1, float x2, float y2) noexcept {
  return {x1, y1, x2, y2, (x2 - x1) * (y2 - y1)};
}

/// inter / union > iou_threshold, all float32, none contracted: w = max(min(x2, k.x2) - max(x1, k.x1), 0), h alike,
/// inter = w * h, union = (k.area + area) - inter. A pair with inter = 0 is never above a threshold of 0 or more,
/// whatever its union.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr bool suppresses(const SizedBox& kept, const SizedBox& box,
                                                             float iou_threshold) noexcept {
  const float width = higher(lower(box.x2, kept.x2) - higher(box.x1, kept.x1), 0.0F);
  const float height = higher(lower(box.y2, kept.y2) - higher(box.y1, kept.y1), 0.0F);
  const float inter = width * height;
  return inter > 0.0F && inter / (kept.area + box.area - inter) > iou_threshold;
}

}  // namespace swiftdet::ops
