// AVX2 bodies of the resizing loops. Compiled with -mavx2: intrinsics and static functions only (cmake/isa.cmake).
//
// Pixels that a whole vector cannot reach without leaving the row, and the last few of a row, go through the scalar
// bodies.
#include <immintrin.h>

#include "ops/resize_kernels.hpp"

namespace swiftdet::ops::cpu {
namespace {

__m128i load_16(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
__m256i load_32(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
void store_32(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }

__m128i load_8(const std::uint8_t* from) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)); }

__m128i load_4(const std::uint8_t* from) {
  std::int32_t bytes = 0;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return _mm_cvtsi32_si128(bytes);
}

/// Two runs of 8 bytes.
__m128i load_8_8(const std::uint8_t* low, const std::uint8_t* high) {
  const __m128d first = _mm_castsi128_pd(load_8(low));
  return _mm_castpd_si128(_mm_loadh_pd(first, reinterpret_cast<const double*>(high)));
}

/// The end of those destination pixels whose run starts at `last_first` at the latest.
int end_of_reach(const std::int32_t* first, int begin, int end, int last_first) {
  while (end > begin && first[end - 1] > last_first) --end;
  return end;
}

void spread(const std::uint8_t* pixels, int channels, int begin, int end, std::uint8_t* lanes) {
  int x = begin;
  if (channels == 3) {
    const __m256i order = _mm256_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1,  //
                                           0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    constexpr int kReach = 10;  // pixels touched by the 28 bytes below
    for (; x + kReach <= end; x += 8) {
      const std::uint8_t* const p = pixels + static_cast<std::ptrdiff_t>(x) * 3;
      const __m256i bytes = _mm256_set_m128i(load_16(p + 12), load_16(p));
      store_32(lanes + static_cast<std::ptrdiff_t>(x) * 4, _mm256_shuffle_epi8(bytes, order));
    }
  }
  kScalarResizeKernels.spread(pixels, channels, x, end, lanes);
}

/// A shuffle index that gives zero, and still does with a small offset added.
constexpr char kZero = -128;

/// For each half: the pair of neighbours that its first byte begins, channel by channel, widened to 16 bits.
template <int kChannels>
__m256i pairs_at_start() {
  constexpr char kNext = kChannels;
  constexpr char kAlpha = kChannels == 4 ? 3 : kZero;
  constexpr char kNextAlpha = kChannels == 4 ? 7 : kZero;
  const __m128i half = _mm_setr_epi8(0, kZero, kNext, kZero, 1, kZero, kNext + 1, kZero, 2, kZero, kNext + 2, kZero,
                                     kAlpha, kZero, kNextAlpha, kZero);
  return _mm256_set_m128i(half, half);
}

/// The pair that begins at byte `offset`, 0 to 9, of each half.
template <int kChannels>
__m256i pairs_at(__m256i offset) {
  return _mm256_add_epi8(pairs_at_start<kChannels>(), offset);
}

/// Four destination pixels of linear_columns. Of `even_pairs` the halves are pixels 0 and 2, of `odd_pairs` 1 and 3.
__m256i weigh_pairs(__m256i even_pairs, __m256i odd_pairs, const std::uint32_t* weight_pairs) {
  const __m256i weights = _mm256_castsi128_si256(load_16(weight_pairs));
  const __m256i even_weights = _mm256_permutevar8x32_epi32(weights, _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2));
  const __m256i odd_weights = _mm256_permutevar8x32_epi32(weights, _mm256_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3));
  const __m256i even = _mm256_srli_epi32(_mm256_madd_epi16(even_pairs, even_weights), 4);
  const __m256i odd = _mm256_srli_epi32(_mm256_madd_epi16(odd_pairs, odd_weights), 4);
  return _mm256_packs_epi32(even, odd);  // within halves: 0 1 | 2 3
}

/// Any factor: the two neighbours of each destination pixel are within 8 bytes. kPrefetches: cache lines of the next
/// row that are asked for with each four pixels.
template <int kChannels, int kPrefetches>
int linear_colour_columns(const std::uint8_t* pixels, const LinearColumns& columns, std::int16_t* lanes) {
  const __m256i low_pairs = pairs_at_start<kChannels>();
  const __m256i high_pairs = pairs_at<kChannels>(_mm256_set1_epi8(8));
  // The 8 bytes reach 2 bytes beyond the second pixel of three channels: into a third.
  const int last_first = columns.source_width - (kChannels == 3 ? 3 : 2);
  const int end = end_of_reach(columns.first, columns.begin, columns.end, last_first);
  const char* const next = reinterpret_cast<const char*>(columns.next_row);
  const std::uint32_t* const weight_pairs = columns.weights;
  const std::int32_t* first = columns.first + columns.begin;
  int d = columns.begin;
  for (; d + 4 <= end; d += 4, first += 4) {
    if constexpr (kPrefetches >= 1) _mm_prefetch(next + static_cast<std::ptrdiff_t>(first[0]) * kChannels, _MM_HINT_T0);
    if constexpr (kPrefetches >= 2) _mm_prefetch(next + static_cast<std::ptrdiff_t>(first[2]) * kChannels, _MM_HINT_T0);
    const __m128i pixels_0_1 = load_8_8(pixels + static_cast<std::ptrdiff_t>(first[0]) * kChannels,
                                        pixels + static_cast<std::ptrdiff_t>(first[1]) * kChannels);
    const __m128i pixels_2_3 = load_8_8(pixels + static_cast<std::ptrdiff_t>(first[2]) * kChannels,
                                        pixels + static_cast<std::ptrdiff_t>(first[3]) * kChannels);
    const __m256i bytes = _mm256_set_m128i(pixels_2_3, pixels_0_1);
    store_32(
        lanes + static_cast<std::ptrdiff_t>(d) * 4,
        weigh_pairs(_mm256_shuffle_epi8(bytes, low_pairs), _mm256_shuffle_epi8(bytes, high_pairs), weight_pairs + d));
  }
  return d;
}

/// Factors up to 3 (or 2 with alpha): two destination pixels are within 16 bytes, so half as many loads do. The plan
/// holds, for each four pixels, the shuffle that finds the odd ones.
template <int kChannels>
int linear_colour_windows(const std::uint8_t* pixels, const LinearColumns& columns, std::int16_t* lanes) {
  const __m256i low_pairs = pairs_at_start<kChannels>();
  const int last_first = columns.source_width - (kChannels == 3 ? 6 : 4);  // 16 bytes touch so many pixels
  const int end = end_of_reach(columns.first, 0, columns.end, last_first);
  const std::uint32_t* const weight_pairs = columns.weights;
  const std::int32_t* const first = columns.first;
  const std::uint8_t* const plan = columns.plan;
  int d = 0;
  for (; d + 4 <= end; d += 4) {
    const __m256i bytes = _mm256_set_m128i(load_16(pixels + static_cast<std::ptrdiff_t>(first[d + 2]) * kChannels),
                                           load_16(pixels + static_cast<std::ptrdiff_t>(first[d]) * kChannels));
    const __m256i high_pairs = load_32(plan + static_cast<std::ptrdiff_t>(d) * kPlanBytesPerPixel);
    store_32(
        lanes + static_cast<std::ptrdiff_t>(d) * 4,
        weigh_pairs(_mm256_shuffle_epi8(bytes, low_pairs), _mm256_shuffle_epi8(bytes, high_pairs), weight_pairs + d));
  }
  return d;
}

template <int kChannels>
bool plan_windows(const LinearColumns& columns, std::uint8_t* plan) {
  constexpr int kLargestStep = kChannels == 3 ? 3 : 2;
  const std::int32_t* const first = columns.first;
  for (int d = 0; d + 4 <= columns.end; d += 4) {
    const int low_step = first[d + 1] - first[d];
    const int high_step = first[d + 3] - first[d + 2];
    if (low_step > kLargestStep || high_step > kLargestStep) return false;
    const __m256i offset = _mm256_set_m128i(_mm_set1_epi8(static_cast<char>(high_step * kChannels)),
                                            _mm_set1_epi8(static_cast<char>(low_step * kChannels)));
    store_32(plan + static_cast<std::ptrdiff_t>(d) * kPlanBytesPerPixel, pairs_at<kChannels>(offset));
  }
  return true;
}

bool plan_linear_columns(int channels, const LinearColumns& columns, std::uint8_t* plan) {
  switch (channels) {
    case 3: return plan_windows<3>(columns, plan);
    case 4: return plan_windows<4>(columns, plan);
    default: return false;
  }
}

/// One channel: eight destination pixels at a time.
int linear_grey_columns(const std::uint8_t* pixels, const LinearColumns& columns, std::int16_t* lanes) {
  const __m256i pairs = _mm256_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1,  //
                                         0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1);
  const int end = end_of_reach(columns.first, columns.begin, columns.end, columns.source_width - 4);
  int d = columns.begin;
  for (; d + 8 <= end; d += 8) {
    const __m256i words = _mm256_i32gather_epi32(reinterpret_cast<const int*>(pixels), load_32(columns.first + d), 1);
    const __m256i sums = _mm256_madd_epi16(_mm256_shuffle_epi8(words, pairs), load_32(columns.weights + d));
    const __m256i shifted = _mm256_srli_epi32(sums, 4);
    const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(shifted), _mm256_extracti128_si256(shifted, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes + d), packed);
  }
  return d;
}

template <int kChannels>
int linear_colour(const std::uint8_t* pixels, const LinearColumns& columns, std::int16_t* lanes) {
  if (columns.plan != nullptr) return linear_colour_windows<kChannels>(pixels, columns, lanes);
  if (columns.next_row == nullptr) return linear_colour_columns<kChannels, 0>(pixels, columns, lanes);
  constexpr std::ptrdiff_t kTwoLines = 96;  // four pixels that span so many bytes lie on two lines at least
  const std::ptrdiff_t row_bytes = static_cast<std::ptrdiff_t>(columns.source_width) * kChannels;
  if (4 * row_bytes < kTwoLines * columns.end) return linear_colour_columns<kChannels, 1>(pixels, columns, lanes);
  return linear_colour_columns<kChannels, 2>(pixels, columns, lanes);
}

void linear_columns(const std::uint8_t* pixels, int channels, const LinearColumns& columns, std::int16_t* lanes) {
  LinearColumns rest = columns;
  switch (channels) {
    case 1: rest.begin = linear_grey_columns(pixels, columns, lanes); break;
    case 3: rest.begin = linear_colour<3>(pixels, columns, lanes); break;
    default: rest.begin = linear_colour<4>(pixels, columns, lanes); break;
  }
  kScalarResizeKernels.linear_columns(pixels, channels, rest, lanes);
}

/// Sixteen lanes of linear_rows, before the clip.
__m256i blend(const std::int16_t* above, const std::int16_t* below, __m256i w_above, __m256i w_below) {
  const __m256i sum =
      _mm256_add_epi16(_mm256_mulhi_epi16(load_32(above), w_above), _mm256_mulhi_epi16(load_32(below), w_below));
  return _mm256_srai_epi16(_mm256_add_epi16(sum, _mm256_set1_epi16(2)), 2);
}

void linear_rows(const std::int16_t* above, const std::int16_t* below, std::uint16_t w_above, std::uint16_t w_below,
                 std::size_t count, std::uint8_t* out) {
  const __m256i wa = _mm256_set1_epi16(static_cast<std::int16_t>(w_above));
  const __m256i wb = _mm256_set1_epi16(static_cast<std::int16_t>(w_below));
  for (std::size_t i = 0; i < count; i += 32) {
    const __m256i packed =
        _mm256_packus_epi16(blend(above + i, below + i, wa, wb), blend(above + i + 16, below + i + 16, wa, wb));
    store_32(out + i, _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
  }
}

/// The sums of neighbours in the same channel, two pixels of 4 lanes to each half, of four destination pixels.
__m256i neighbour_sums(const std::uint8_t* pixels, int half_step, __m256i neighbours) {
  const __m256i bytes = _mm256_set_m128i(load_16(pixels + half_step), load_16(pixels));
  return _mm256_maddubs_epi16(_mm256_shuffle_epi8(bytes, neighbours), _mm256_set1_epi8(1));
}

/// A quarter of the sum, rounded half up.
__m256i quarter(__m256i top, __m256i bottom) {
  return _mm256_srli_epi16(_mm256_add_epi16(_mm256_add_epi16(top, bottom), _mm256_set1_epi16(2)), 2);
}

/// 3 or 4 channels: eight destination pixels at a time.
int halve_colour(const std::uint8_t* top, const std::uint8_t* bottom, int channels, int width, std::uint8_t* lanes) {
  const __m256i neighbours = channels == 3 ? _mm256_setr_epi8(0, 3, 1, 4, 2, 5, -1, -1, 6, 9, 7, 10, 8, 11, -1, -1,  //
                                                              0, 3, 1, 4, 2, 5, -1, -1, 6, 9, 7, 10, 8, 11, -1, -1)
                                           : _mm256_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15,  //
                                                              0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
  const int half_step = 4 * channels;       // bytes from one pair of destination pixels to the next
  const int reach = channels == 3 ? 9 : 8;  // pixels touched: the last 16 bytes hold 12 that are wanted
  int d = 0;
  for (; d + reach <= width; d += 8) {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(d) * 2 * channels;
    const std::ptrdiff_t later = at + std::ptrdiff_t{2} * half_step;
    const __m256i first_four =
        quarter(neighbour_sums(top + at, half_step, neighbours), neighbour_sums(bottom + at, half_step, neighbours));
    const __m256i last_four = quarter(neighbour_sums(top + later, half_step, neighbours),
                                      neighbour_sums(bottom + later, half_step, neighbours));
    store_32(lanes + static_cast<std::ptrdiff_t>(d) * 4,
             _mm256_permute4x64_epi64(_mm256_packus_epi16(first_four, last_four), _MM_SHUFFLE(3, 1, 2, 0)));
  }
  return d;
}

/// One channel: sixteen destination pixels at a time.
int halve_grey(const std::uint8_t* top, const std::uint8_t* bottom, int width, std::uint8_t* lanes) {
  const __m256i ones = _mm256_set1_epi8(1);
  int d = 0;
  for (; d + 16 <= width; d += 16) {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(d) * 2;
    const __m256i values =
        quarter(_mm256_maddubs_epi16(load_32(top + at), ones), _mm256_maddubs_epi16(load_32(bottom + at), ones));
    const __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes + d), packed);
  }
  return d;
}

void halve(const std::uint8_t* top, const std::uint8_t* bottom, int channels, int begin, int end, std::uint8_t* lanes) {
  const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(begin) * 2 * channels;
  const int lanes_per_pixel = channels == 1 ? 1 : 4;
  std::uint8_t* const first = lanes + static_cast<std::ptrdiff_t>(begin) * lanes_per_pixel;
  const int done = channels == 1 ? halve_grey(top + at, bottom + at, end - begin, first)
                                 : halve_colour(top + at, bottom + at, channels, end - begin, first);
  kScalarResizeKernels.halve(top, bottom, channels, begin + done, end, lanes);
}

/// 3 or 4 channels: the lanes of one destination pixel at a time.
int area_colour_columns(const std::uint8_t* pixels, int channels, const AreaColumns& columns, float* lanes) {
  const __m128 kept = _mm_castsi128_ps(_mm_setr_epi32(-1, -1, -1, channels == 3 ? 0 : -1));
  // The 4 bytes of a pixel of three channels reach into the next.
  const int last_first = columns.source_width - columns.taps - (channels == 3 ? 1 : 0);
  const int end = end_of_reach(columns.first, columns.begin, columns.end, last_first);
  for (int d = columns.begin; d < end; ++d) {
    const std::uint8_t* pixel = pixels + static_cast<std::ptrdiff_t>(columns.first[d]) * channels;
    const float* const weights = columns.weights + static_cast<std::ptrdiff_t>(d) * columns.taps;
    __m128 sum = _mm_setzero_ps();
    for (int k = 0; k < columns.taps; ++k, pixel += channels) {
      const __m128 values = _mm_cvtepi32_ps(_mm_cvtepu8_epi32(load_4(pixel)));
      sum = _mm_add_ps(sum, _mm_mul_ps(values, _mm_set1_ps(weights[k])));
    }
    _mm_storeu_ps(lanes + static_cast<std::ptrdiff_t>(d) * 4, _mm_and_ps(sum, kept));
  }
  return end;
}

void area_columns(const std::uint8_t* pixels, int channels, const AreaColumns& columns, float* lanes) {
  AreaColumns rest = columns;
  if (channels != 1) rest.begin = area_colour_columns(pixels, channels, columns, lanes);
  kScalarResizeKernels.area_columns(pixels, channels, rest, lanes);
}

void area_add_row(const float* row, float weight, bool start, std::size_t count, float* sum) {
  const __m256 w = _mm256_set1_ps(weight);
  for (std::size_t i = 0; i < count; i += 8) {
    const __m256 product = _mm256_mul_ps(_mm256_loadu_ps(row + i), w);
    _mm256_storeu_ps(sum + i, start ? product : _mm256_add_ps(_mm256_loadu_ps(sum + i), product));
  }
}

void area_finish(const float* sum, std::size_t count, std::uint8_t* out) {
  const __m256i ascending = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (std::size_t i = 0; i < count; i += 32) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_loadu_ps(sum + i));
    const __m256i b = _mm256_cvtps_epi32(_mm256_loadu_ps(sum + i + 8));
    const __m256i c = _mm256_cvtps_epi32(_mm256_loadu_ps(sum + i + 16));
    const __m256i d = _mm256_cvtps_epi32(_mm256_loadu_ps(sum + i + 24));
    const __m256i packed = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    store_32(out + i, _mm256_permutevar8x32_epi32(packed, ascending));
  }
}

void add_bytes(const std::uint8_t* bytes, bool start, std::size_t count, std::uint32_t* sum) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i values = _mm256_cvtepu8_epi32(load_8(bytes + i));
    store_32(sum + i, start ? values : _mm256_add_epi32(load_32(sum + i), values));
  }
  kScalarResizeKernels.add_bytes(bytes + i, start, count - i, sum + i);
}

}  // namespace

const ResizeKernels kAvx2ResizeKernels{
    .spread = spread,
    .plan_linear_columns = plan_linear_columns,
    .linear_columns = linear_columns,
    .linear_rows = linear_rows,
    .halve = halve,
    .area_columns = area_columns,
    .area_add_row = area_add_row,
    .area_finish = area_finish,
    .add_bytes = add_bytes,
};

}  // namespace swiftdet::ops::cpu
