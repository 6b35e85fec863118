// The inner loop of NMS: one box against the survivors before it. nms_scalar.cpp is the specification.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/isa.hpp"
#include "ops/nms_formulas.hpp"

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

/// True when one of the boxes in `blocks` suppresses `box` (nms_formulas.hpp).
using SuppressedBy = bool (*)(const SizedBox& box, const KeptBlock* blocks, std::int32_t count, float iou_threshold);

bool suppressed_scalar(const SizedBox& box, const KeptBlock* blocks, std::int32_t count, float iou_threshold);
bool suppressed_avx2(const SizedBox& box, const KeptBlock* blocks, std::int32_t count, float iou_threshold);

[[nodiscard]] SuppressedBy suppressed_by(swiftdet::cpu::Isa isa) noexcept;

}  // namespace swiftdet::ops::cpu
