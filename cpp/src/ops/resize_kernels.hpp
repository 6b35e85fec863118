// The inner loops of resizing, one row at a time: their contracts, and one set of bodies per instruction set.
//
// Terms. A *pixel row* is what the source has: `width` pixels of 1, 3 or 4 bytes back to back. A *lane row* is what the
// loops make: 1 lane per pixel for grey, else 4 (the fourth is alpha, or 0). Lane rows live in scratch whose length is
// a multiple of kLanePadding elements, so that a body may read and write whole vectors past the last pixel. Pixel rows
// belong to the caller of the library: no body touches a byte outside them.
//
// Every set computes the same values, bit for bit; the scalar set is the specification.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/isa.hpp"
#include "ops/resize_axis.hpp"

namespace swiftdet::ops::cpu {

inline constexpr std::size_t kLanePadding = 32;
inline constexpr int kPlanBytesPerPixel = 8;

[[nodiscard]] constexpr int lane_count(int channels) noexcept { return channels == 1 ? 1 : 4; }

[[nodiscard]] constexpr std::size_t padded(std::size_t elements) noexcept {
  return (elements + kLanePadding - 1) / kLanePadding * kLanePadding;
}

/// The horizontal axis as the loops want it: plain pointers (SIMD files use no standard library).
struct LinearColumns {
  const std::int32_t* first = nullptr;
  const std::uint32_t* weights = nullptr;
  int begin = 0;  ///< destination pixels [begin, end) are computed
  int end = 0;
  int source_width = 0;
  const std::uint8_t* next_row = nullptr;  ///< hint: the pixel row wanted next, if it is far from this one; or null
  const std::uint8_t* plan = nullptr;      ///< as filled by plan_linear_columns for these columns, from 0 on; or null
};

struct AreaColumns {
  const std::int32_t* first = nullptr;
  const float* weights = nullptr;
  int taps = 0;
  int begin = 0;
  int end = 0;
  int source_width = 0;
};

struct ResizeKernels {
  /// Lane row of a pixel row: spreads 3 channels over 4 lanes, the fourth 0; copies 1 and 4.
  void (*spread)(const std::uint8_t* pixels, int channels, int begin, int end, std::uint8_t* lanes);

  /// Prepares what linear_columns can use again for every row of the same columns, in kPlanBytesPerPixel bytes for each
  /// destination pixel. False if there is nothing to prepare: then `plan` holds nothing.
  bool (*plan_linear_columns)(int channels, const LinearColumns& columns, std::uint8_t* plan);

  /// lanes[d] = (p[first] * w0 + p[first + 1] * w1) >> 4, at most 32655. The second pixel is not read if w1 = 0.
  void (*linear_columns)(const std::uint8_t* pixels, int channels, const LinearColumns& columns, std::int16_t* lanes);

  /// out = (((above * w_above) >> 16) + ((below * w_below) >> 16) + 2) >> 2 for `count` lanes, clipped to 0..255.
  void (*linear_rows)(const std::int16_t* above, const std::int16_t* below, std::uint16_t w_above,
                      std::uint16_t w_below, std::size_t count, std::uint8_t* out);

  /// lanes[d] = (sum of the 2 x 2 pixels at column 2 * d + 2) >> 2, for d in [begin, end).
  void (*halve)(const std::uint8_t* top, const std::uint8_t* bottom, int channels, int begin, int end,
                std::uint8_t* lanes);

  /// lanes[d] = sum over k < taps of p[first + k] * weights[d, k], float32, product by product in source order, no
  /// contraction.
  void (*area_columns)(const std::uint8_t* pixels, int channels, const AreaColumns& columns, float* lanes);

  /// sum = row * weight if `start`, else sum += row * weight, for `count` lanes.
  void (*area_add_row)(const float* row, float weight, bool start, std::size_t count, float* sum);

  /// out = sum rounded half to even, clipped to 0..255.
  void (*area_finish)(const float* sum, std::size_t count, std::uint8_t* out);

  /// sum[i] = bytes[i] if `start`, else sum[i] += bytes[i], for the `count` bytes of a pixel row.
  void (*add_bytes)(const std::uint8_t* bytes, bool start, std::size_t count, std::uint32_t* sum);
};

/// The bodies for `isa`; an instruction set without bodies of its own gets the scalar ones.
[[nodiscard]] const ResizeKernels& resize_kernels(swiftdet::cpu::Isa isa) noexcept;

extern const ResizeKernels kScalarResizeKernels;
#if SWIFTDET_ISA_X86
extern const ResizeKernels kAvx2ResizeKernels;
#endif

}  // namespace swiftdet::ops::cpu
