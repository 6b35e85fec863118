// The specification of the inner loop of NMS, and the choice of a body.
#include "ops/nms_kernels.hpp"

namespace swiftdet::ops::cpu {
namespace {

inline float lower(float a, float b) { return a < b ? a : b; }
inline float higher(float a, float b) { return a > b ? a : b; }

}  // namespace

bool suppressed_scalar(const ProbeBox& box, const KeptBlock* blocks, std::int32_t count, float iou_threshold) {
  for (std::int32_t block = 0; block < count; ++block) {
    const KeptBlock& kept = blocks[block];
    for (std::int32_t i = 0; i < KeptBlock::kBoxes; ++i) {
      const float width = higher(lower(box.x2, kept.x2[i]) - higher(box.x1, kept.x1[i]), 0.0F);
      const float height = higher(lower(box.y2, kept.y2[i]) - higher(box.y1, kept.y1[i]), 0.0F);
      const float inter = width * height;
      if (inter > 0.0F && inter / (kept.area[i] + box.area - inter) > iou_threshold) return true;
    }
  }
  return false;
}

SuppressedBy suppressed_by([[maybe_unused]] swiftdet::cpu::Isa isa) noexcept {
#if SWIFTDET_ISA_X86
  if (isa == swiftdet::cpu::Isa::kAvx2) return suppressed_avx2;
#endif
  return suppressed_scalar;
}

}  // namespace swiftdet::ops::cpu
