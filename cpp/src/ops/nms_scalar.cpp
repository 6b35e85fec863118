// The specification of the inner loop of NMS, and the choice of a body.
#include "ops/nms_kernels.hpp"

namespace swiftdet::ops::cpu {

bool suppressed_scalar(const SizedBox& box, const KeptBlock* blocks, std::int32_t count, float iou_threshold) {
  for (std::int32_t block = 0; block < count; ++block) {
    const KeptBlock& kept = blocks[block];
    for (std::int32_t i = 0; i < KeptBlock::kBoxes; ++i) {
      const SizedBox other{kept.x1[i], kept.y1[i], kept.x2[i], kept.y2[i], kept.area[i]};
      if (suppresses(other, box, iou_threshold)) return true;
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
