// AVX2 body of the letterbox's inner loop. Compiled with -mavx2: intrinsics and static functions only
// (cmake/isa.cmake).
#include <immintrin.h>

#include "ops/letterbox_kernels.hpp"

namespace swiftdet::ops::cpu {
namespace {

/// (value / divisor - mean) / std of one plane, or value / divisor alone. A real division: a reciprocal rounds twice.
template <bool kStandardises>
struct Scaler {
  __m256 divisor, mean, std;

  Scaler(const PlaneScaling& scaling, int plane)
      : divisor(_mm256_set1_ps(scaling.divisor)),
        mean(_mm256_set1_ps(scaling.mean[plane])),
        std(_mm256_set1_ps(scaling.std[plane])) {}

  /// The low 8 bytes of `bytes`.
  __m256 operator()(__m128i bytes) const {
    const __m256 value = _mm256_div_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), divisor);
    if constexpr (!kStandardises) return value;
    return _mm256_div_ps(_mm256_sub_ps(value, mean), std);
  }
};

/// Writes whole groups of 8 pixels and returns where they end.
template <bool kStandardises>
int write_grey(const std::uint8_t* lanes, int begin, int end, const PlaneScaling& scaling,
               const PlaneRows<float>& rows) {
  const Scaler<kStandardises> red(scaling, 0);
  const Scaler<kStandardises> green(scaling, 1);
  const Scaler<kStandardises> blue(scaling, 2);
  int x = begin;
  for (; x + 8 <= end; x += 8) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(lanes + x));
    _mm256_storeu_ps(rows.row[0] + x, red(bytes));
    _mm256_storeu_ps(rows.row[1] + x, green(bytes));
    _mm256_storeu_ps(rows.row[2] + x, blue(bytes));
  }
  return x;
}

template <bool kStandardises>
int write_colour(const std::uint8_t* lanes, int begin, int end, const PlaneScaling& scaling,
                 const PlaneRows<float>& rows) {
  // Green is lane 1 in either channel order.
  const int plane_of_lane_0 = rows.lane[0] == 0 ? 0 : 2;
  const int plane_of_lane_2 = 2 - plane_of_lane_0;
  const Scaler<kStandardises> scale_0(scaling, plane_of_lane_0);
  const Scaler<kStandardises> scale_1(scaling, 1);
  const Scaler<kStandardises> scale_2(scaling, plane_of_lane_2);
  float* const row_0 = rows.row[plane_of_lane_0];
  float* const row_1 = rows.row[1];
  float* const row_2 = rows.row[plane_of_lane_2];
  // Four pixels of a half by lane, then the halves of each lane side by side: lane 0 in bytes 0..7, 1 in 8..15, ...
  const __m256i by_lane = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,  //
                                           0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m256i join_halves = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  int x = begin;
  for (; x + 8 <= end; x += 8) {
    const __m256i pixels =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes + static_cast<std::ptrdiff_t>(x) * 4));
    const __m256i sorted = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(pixels, by_lane), join_halves);
    const __m128i lanes_0_1 = _mm256_castsi256_si128(sorted);
    _mm256_storeu_ps(row_0 + x, scale_0(lanes_0_1));
    _mm256_storeu_ps(row_1 + x, scale_1(_mm_srli_si128(lanes_0_1, 8)));
    _mm256_storeu_ps(row_2 + x, scale_2(_mm256_extracti128_si256(sorted, 1)));
  }
  return x;
}

void write_values(const std::uint8_t* lanes, int lanes_per_pixel, int begin, int end, const PlaneScaling& scaling,
                  const PlaneRows<float>& rows) {
  int done = begin;
  if (lanes_per_pixel == 1) {
    done = scaling.standardises ? write_grey<true>(lanes, begin, end, scaling, rows)
                                : write_grey<false>(lanes, begin, end, scaling, rows);
  } else {
    done = scaling.standardises ? write_colour<true>(lanes, begin, end, scaling, rows)
                                : write_colour<false>(lanes, begin, end, scaling, rows);
  }
  kScalarLetterboxKernels.write_values(lanes, lanes_per_pixel, done, end, scaling, rows);
}

}  // namespace

const LetterboxKernels kAvx2LetterboxKernels{.write_values = write_values};

}  // namespace swiftdet::ops::cpu
