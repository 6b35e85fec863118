// AVX2 body of the inner loop of NMS. Nothing of the standard library that would be emitted here (cmake/isa.cmake).
#include <immintrin.h>

#include "ops/nms_kernels.hpp"

namespace swiftdet::ops::cpu {

bool suppressed_avx2(const SizedBox& box, const KeptBlock* blocks, std::int32_t count, float iou_threshold) {
  const __m256 x1 = _mm256_set1_ps(box.x1);
  const __m256 y1 = _mm256_set1_ps(box.y1);
  const __m256 x2 = _mm256_set1_ps(box.x2);
  const __m256 y2 = _mm256_set1_ps(box.y2);
  const __m256 area = _mm256_set1_ps(box.area);
  const __m256 threshold = _mm256_set1_ps(iou_threshold);
  const __m256 zero = _mm256_setzero_ps();
  for (std::int32_t block = 0; block < count; ++block) {
    const KeptBlock& kept = blocks[block];
    const __m256 right = _mm256_min_ps(x2, _mm256_load_ps(kept.x2));
    const __m256 left = _mm256_max_ps(x1, _mm256_load_ps(kept.x1));
    const __m256 bottom = _mm256_min_ps(y2, _mm256_load_ps(kept.y2));
    const __m256 top = _mm256_max_ps(y1, _mm256_load_ps(kept.y1));
    const __m256 width = _mm256_max_ps(_mm256_sub_ps(right, left), zero);
    const __m256 height = _mm256_max_ps(_mm256_sub_ps(bottom, top), zero);
    const __m256 inter = _mm256_mul_ps(width, height);
    const __m256 overlap = _mm256_cmp_ps(inter, zero, _CMP_GT_OQ);
    // Most pairs lie apart: no division for them.
    if (_mm256_movemask_ps(overlap) == 0) continue;
    const __m256 both = _mm256_sub_ps(_mm256_add_ps(_mm256_load_ps(kept.area), area), inter);
    const __m256 above = _mm256_cmp_ps(_mm256_div_ps(inter, both), threshold, _CMP_GT_OQ);
    if (_mm256_movemask_ps(_mm256_and_ps(overlap, above)) != 0) return true;
  }
  return false;
}

}  // namespace swiftdet::ops::cpu
