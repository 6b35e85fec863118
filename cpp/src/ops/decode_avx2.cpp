// AVX2 bodies of decoding's inner loops. Nothing of the standard library that would be emitted here (cmake/isa.cmake).
#include <immintrin.h>

#include "ops/decode_kernels.hpp"
#include "swiftdet/base/exp.hpp"

namespace swiftdet::ops::cpu {
namespace {

constexpr std::int32_t kLanes = 8;

inline std::int32_t append(std::int32_t* hits, std::int32_t found, unsigned mask, std::int32_t first) {
  while (mask != 0) {
    hits[found++] = first + __builtin_ctz(mask);
    mask &= mask - 1;
  }
  return found;
}

inline unsigned above(__m256 x, __m256 threshold) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(x, threshold, _CMP_GT_OQ)));
}

std::int32_t find_above(const float* x, std::int32_t n, float threshold, std::int32_t* hits) {
  const __m256 t = _mm256_set1_ps(threshold);
  std::int32_t found = 0;
  std::int32_t i = 0;
  // Four vectors under one test: most are empty.
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    const float* const p = x + i;
    const __m256 m0 = _mm256_cmp_ps(_mm256_loadu_ps(p), t, _CMP_GT_OQ);
    const __m256 m1 = _mm256_cmp_ps(_mm256_loadu_ps(p + 8), t, _CMP_GT_OQ);
    const __m256 m2 = _mm256_cmp_ps(_mm256_loadu_ps(p + 16), t, _CMP_GT_OQ);
    const __m256 m3 = _mm256_cmp_ps(_mm256_loadu_ps(p + 24), t, _CMP_GT_OQ);
    const __m256 any = _mm256_or_ps(_mm256_or_ps(m0, m1), _mm256_or_ps(m2, m3));
    if (_mm256_testz_ps(any, any) != 0) continue;
    const unsigned mask =
        static_cast<unsigned>(_mm256_movemask_ps(m0)) | static_cast<unsigned>(_mm256_movemask_ps(m1)) << 8U |
        static_cast<unsigned>(_mm256_movemask_ps(m2)) << 16U | static_cast<unsigned>(_mm256_movemask_ps(m3)) << 24U;
    found = append(hits, found, mask, i);
  }
  for (; i + kLanes <= n; i += kLanes) found = append(hits, found, above(_mm256_loadu_ps(x + i), t), i);
  for (; i < n; ++i) {
    if (x[i] > threshold) hits[found++] = i;
  }
  return found;
}

std::int32_t find_above_strided(const float* x, std::int32_t n, std::ptrdiff_t stride, float threshold,
                                std::int32_t* hits) {
  if (stride == 1) return find_above(x, n, threshold, hits);
  const __m256 t = _mm256_set1_ps(threshold);
  std::int32_t found = 0;
  std::int32_t i = 0;
  // Plain loads: each element lies on a cache line of its own, and a gather is no faster than they are.
  for (; i + kLanes <= n; i += kLanes) {
    const float* const p = x + i * stride;
    const __m256 v = _mm256_setr_ps(p[0], p[stride], p[2 * stride], p[3 * stride], p[4 * stride], p[5 * stride],
                                    p[6 * stride], p[7 * stride]);
    found = append(hits, found, above(v, t), i);
  }
  for (; i < n; ++i) {
    if (x[i * stride] > threshold) hits[found++] = i;
  }
  return found;
}

std::int32_t find_scaled_above(const float* x, std::int32_t n, float scale, float threshold, std::int32_t* hits) {
  const __m256 t = _mm256_set1_ps(threshold);
  const __m256 s = _mm256_set1_ps(scale);
  std::int32_t found = 0;
  std::int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    found = append(hits, found, above(_mm256_mul_ps(s, _mm256_loadu_ps(x + i)), t), i);
  }
  for (; i < n; ++i) {
    if (scale * x[i] > threshold) hits[found++] = i;
  }
  return found;
}

/// exp_f32 of base/exp.hpp, step by step, in eight lanes.
inline __m256 exp_lanes(__m256 x) {
  using C = ExpConstants;
  const __m256 shifted = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(C::kLog2E)), _mm256_set1_ps(C::kRound));
  const __m256 n = _mm256_sub_ps(shifted, _mm256_set1_ps(C::kRound));
  const __m256 r = _mm256_sub_ps(_mm256_sub_ps(x, _mm256_mul_ps(n, _mm256_set1_ps(C::kLn2High))),
                                 _mm256_mul_ps(n, _mm256_set1_ps(C::kLn2Low)));
  __m256 q = _mm256_set1_ps(C::kQ5);
  q = _mm256_add_ps(_mm256_mul_ps(q, r), _mm256_set1_ps(C::kQ4));
  q = _mm256_add_ps(_mm256_mul_ps(q, r), _mm256_set1_ps(C::kQ3));
  q = _mm256_add_ps(_mm256_mul_ps(q, r), _mm256_set1_ps(C::kQ2));
  q = _mm256_add_ps(_mm256_mul_ps(q, r), _mm256_set1_ps(C::kQ1));
  q = _mm256_add_ps(_mm256_mul_ps(q, r), _mm256_set1_ps(C::kQ0));
  const __m256 y = _mm256_add_ps(_mm256_set1_ps(1.0F), _mm256_add_ps(r, _mm256_mul_ps(_mm256_mul_ps(r, r), q)));
  const __m256i scaled = _mm256_add_epi32(_mm256_castps_si256(y), _mm256_slli_epi32(_mm256_castps_si256(shifted), 23));
  __m256 result = _mm256_castsi256_ps(scaled);
  const __m256 too_low = _mm256_cmp_ps(x, _mm256_set1_ps(C::kMin), _CMP_LT_OQ);
  const __m256 too_high = _mm256_cmp_ps(x, _mm256_set1_ps(C::kMax), _CMP_GT_OQ);
  const __m256 infinity = _mm256_castsi256_ps(_mm256_set1_epi32(0x7F800000));
  result = _mm256_andnot_ps(too_low, result);
  result = _mm256_blendv_ps(result, infinity, too_high);
  return _mm256_blendv_ps(result, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

void expected_bins(const float* logits, const std::int32_t* offsets, std::int32_t count, std::int32_t bin_stride,
                   std::int32_t bins, float* result) {
  std::int32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m256i at = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offsets + i));
    __m256 highest = _mm256_i32gather_ps(logits, at, 4);
    for (std::int32_t bin = 1; bin < bins; ++bin) {
      const __m256 x = _mm256_i32gather_ps(logits + static_cast<std::ptrdiff_t>(bin) * bin_stride, at, 4);
      highest = _mm256_max_ps(x, highest);
    }
    __m256 sum = _mm256_setzero_ps();
    __m256 weighted = _mm256_setzero_ps();
    for (std::int32_t bin = 0; bin < bins; ++bin) {
      const __m256 x = _mm256_i32gather_ps(logits + static_cast<std::ptrdiff_t>(bin) * bin_stride, at, 4);
      const __m256 weight = exp_lanes(_mm256_sub_ps(x, highest));
      sum = _mm256_add_ps(sum, weight);
      weighted = _mm256_add_ps(weighted, _mm256_mul_ps(_mm256_set1_ps(static_cast<float>(bin)), weight));
    }
    _mm256_storeu_ps(result + i, _mm256_div_ps(weighted, sum));
  }
  if (i < count) kDecodeScalar.expected_bins(logits, offsets + i, count - i, bin_stride, bins, result + i);
}

}  // namespace

const DecodeKernels kDecodeAvx2{find_above, find_above_strided, find_scaled_above, expected_bins};

}  // namespace swiftdet::ops::cpu
