// The inner loop of NMS: one box against the survivors before it. nms_scalar.cpp is the specification.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/isa.hpp"

namespace swiftdet::ops::cpu {

/// Eight survivors side by side. Unused places hold a box that overlaps nothing (x1 = y1 = +inf, x2 = y2 = -inf).
struct alignas(32) KeptBlock {
  static constexpr std::int32_t kBoxes = 8;
  float x1[kBoxes];
  float y1[kBoxes];
  float x2[kBoxes];
  float y2[kBoxes];
  float area[kBoxes];
};

struct ProbeBox {
  float x1;
  float y1;
  float x2;
  float y2;
  float area;
};

/// True when `box` and one of the boxes in `blocks` have inter / union > iou_threshold.
///
/// With min(a, b) = a < b ? a : b and max(a, b) = a > b ? a : b, all float32, none contracted:
/// w = max(min(x2, k.x2) - max(x1, k.x1), 0), h alike, inter = w * h, union = (k.area + area) - inter.
/// A pair with inter = 0 is never above a threshold of 0 or more, whatever its union.
using SuppressedBy = bool (*)(const ProbeBox& box, const KeptBlock* blocks, std::int32_t count, float iou_threshold);

bool suppressed_scalar(const ProbeBox& box, const KeptBlock* blocks, std::int32_t count, float iou_threshold);
bool suppressed_avx2(const ProbeBox& box, const KeptBlock* blocks, std::int32_t count, float iou_threshold);

[[nodiscard]] SuppressedBy suppressed_by(swiftdet::cpu::Isa isa) noexcept;

}  // namespace swiftdet::ops::cpu
