// From what a head predicts for one anchor to a box: shared by every body and device.
#pragma once

#include <limits>

#include "swiftdet/base/exp.hpp"

namespace swiftdet::ops {

/// Corners, float32, network px.
struct Box {
  float x1 = 0.0F;
  float y1 = 0.0F;
  float x2 = 0.0F;
  float y2 = 0.0F;
};

[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr Box box_from_center(float center_x, float center_y, float width,
                                                                 float height) noexcept {
  const float half_width = width * 0.5F;
  const float half_height = height * 0.5F;
  return {center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height};
}

/// YOLOv7's Detect layer: logits x, y, w, h of the cell (column, row); strides and anchors in px.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr Box box_from_anchor(float x, float y, float w, float h, float column,
                                                                 float row, float stride, float anchor_width,
                                                                 float anchor_height) noexcept {
  const float twice_w = sigmoid_f32(w) * 2.0F;
  const float twice_h = sigmoid_f32(h) * 2.0F;
  return box_from_center((sigmoid_f32(x) * 2.0F - 0.5F + column) * stride,
                         (sigmoid_f32(y) * 2.0F - 0.5F + row) * stride, twice_w * twice_w * anchor_width,
                         twice_h * twice_h * anchor_height);
}

/// DAMO-YOLO's ZeroHead: distances to the sides in cells from the cell's own corner (no half-cell offset).
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr Box box_from_distances(float left, float top, float right, float bottom,
                                                                    float column, float row, float stride) noexcept {
  const float x = column * stride;
  const float y = row * stride;
  return {x - left * stride, y - top * stride, x + right * stride, y + bottom * stride};
}

/// Expected bin of a distribution: softmax over the `bins` logits that `logit(bin)` gives, then sum(bin * p), as
/// sum(bin * exp(logit - max)) / sum(exp(logit - max)), bins ascending.
template <typename Logit>
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr float expected_bin(const Logit& logit, int bins) noexcept {
  float highest = logit(0);
  for (int bin = 1; bin < bins; ++bin) {
    const float x = logit(bin);
    highest = x > highest ? x : highest;
  }
  float sum = 0.0F;
  float weighted = 0.0F;
  for (int bin = 0; bin < bins; ++bin) {
    const float weight = exp_f32(logit(bin) - highest);
    sum += weight;
    weighted += static_cast<float>(bin) * weight;
  }
  return weighted / sum;
}

/// NaN and the infinities are not.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr bool is_finite(float value) noexcept {
  return value >= -std::numeric_limits<float>::max() && value <= std::numeric_limits<float>::max();
}

[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr bool is_finite(const Box& box) noexcept {
  return is_finite(box.x1) && is_finite(box.y1) && is_finite(box.x2) && is_finite(box.y2);
}

}  // namespace swiftdet::ops
