// OpenCV's arithmetic for one pixel of a resize, to the last rounding: shared by every body and device.
//
// An axis has source length S and destination length D; scale = 1 / (D / S) in double, which is not S / D when both are
// rounded. Doubles where OpenCV has doubles, float32 where it has float32.
#pragma once

#include <cmath>
#include <cstdint>

#include "swiftdet/base/host_device.hpp"
#include "swiftdet/ops/resize.hpp"

namespace swiftdet::ops {

// --- Linear: two neighbouring source pixels, weights of 11 fraction bits (2048 is one) -------------------------------

/// The first of two neighbouring source pixels, and the second one's share, in [0, 1).
struct LinearTap {
  int first;
  float fraction;
};

/// INTER_LINEAR: the distance between pixel centres.
[[nodiscard]] SWIFTDET_HOST_DEVICE inline LinearTap linear_tap(int d, double scale) noexcept {
  const auto centre = static_cast<float>((d + 0.5) * scale - 0.5);
  const float floor = std::floor(centre);
  return {static_cast<int>(floor), centre - floor};
}

/// INTER_AREA where an axis enlarges: the part of the destination cell over the second pixel.
[[nodiscard]] SWIFTDET_HOST_DEVICE inline LinearTap area_enlarge_tap(int d, double scale,
                                                                     double inverse_scale) noexcept {
  const int first = static_cast<int>(std::floor(d * scale));
  const auto beyond = static_cast<float>((d + 1) - (first + 1) * inverse_scale);
  return {first, beyond <= 0.0F ? 0.0F : beyond - std::floor(beyond)};
}

/// On the horizontal axis a second pixel of non-zero weight always exists.
[[nodiscard]] SWIFTDET_HOST_DEVICE inline LinearTap horizontal_tap(LinearTap tap, int source) noexcept {
  if (tap.first < 0) tap = {0, 0.0F};
  if (tap.first >= source - 1) tap = {source - 1, 0.0F};
  return tap;
}

/// nearbyint rounds half to even, as OpenCV's conversion does.
[[nodiscard]] SWIFTDET_HOST_DEVICE inline std::uint32_t linear_weight(float share) noexcept {
  return static_cast<std::uint32_t>(std::nearbyint(share * 2048.0F));
}

/// At most 32655.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr int linear_across(int first, int second, int w0, int w1) noexcept {
  return (first * w0 + second * w1) >> 4;
}

[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr std::uint8_t linear_down(int above, int below, int w_above,
                                                                      int w_below) noexcept {
  const int value = (((above * w_above) >> 16) + ((below * w_below) >> 16) + 2) >> 2;
  return static_cast<std::uint8_t>(value < 0 ? 0 : (value > 255 ? 255 : value));
}

// --- Exact halving ---------------------------------------------------------------------------------------------------

/// Of the sum of 2 x 2 pixels.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr std::uint8_t quarter(int sum) noexcept {
  return static_cast<std::uint8_t>((sum + 2) >> 2);
}

// --- Area: how much of each source pixel a destination cell covers
// ----------------------------------------------------

/// Perhaps part of a pixel, whole pixels, perhaps part of a pixel.
struct AreaCell {
  int first_whole = 0;
  int whole_count = 0;
  float whole_weight = 0.0F;
  float leading_weight = 0.0F;   ///< 0: no such pixel
  float trailing_weight = 0.0F;  ///< 0: no such pixel

  [[nodiscard]] SWIFTDET_HOST_DEVICE constexpr int first() const noexcept {
    return first_whole - (leading_weight != 0.0F ? 1 : 0);
  }
  [[nodiscard]] SWIFTDET_HOST_DEVICE constexpr int taps() const noexcept {
    return whole_count + (leading_weight != 0.0F ? 1 : 0) + (trailing_weight != 0.0F ? 1 : 0);
  }
  /// Weight of pixel `first() + k`, k in [0, taps()).
  [[nodiscard]] SWIFTDET_HOST_DEVICE constexpr float weight(int k) const noexcept {
    const int whole = k - (leading_weight != 0.0F ? 1 : 0);
    if (whole < 0) return leading_weight;
    return whole < whole_count ? whole_weight : trailing_weight;
  }
};

[[nodiscard]] SWIFTDET_HOST_DEVICE inline AreaCell area_cell(int d, int source, double scale) noexcept {
  constexpr double kLeastCoverage = 1e-3;  // less than this part of a pixel does not count as covered
  AreaCell cell;
  const double begin = d * scale;
  const double end = begin + scale;
  const double rest = source - begin;
  const double covered = scale < rest ? scale : rest;
  const int beyond = static_cast<int>(std::floor(end));
  const int last = beyond < source - 1 ? beyond : source - 1;
  const int first = static_cast<int>(std::ceil(begin));
  cell.first_whole = first < last ? first : last;
  cell.whole_count = last - cell.first_whole;
  cell.whole_weight = static_cast<float>(1.0 / covered);
  const double leading = cell.first_whole - begin;
  const double trailing = end - last;
  if (leading > kLeastCoverage) cell.leading_weight = static_cast<float>(leading / covered);
  if (trailing > kLeastCoverage) {
    const double part = trailing < 1.0 ? trailing : 1.0;
    cell.trailing_weight = static_cast<float>((part < covered ? part : covered) / covered);
  }
  return cell;
}

/// Rounded half to even, clipped to 0..255.
[[nodiscard]] SWIFTDET_HOST_DEVICE inline std::uint8_t rounded_byte(float value) noexcept {
  const float rounded = std::nearbyint(value);
  return static_cast<std::uint8_t>(rounded < 0.0F ? 0.0F : (rounded > 255.0F ? 255.0F : rounded));
}

/// The mean of a cell of `pixels` whole pixels. OpenCV adds in int32 and so wraps for cells of more than 2^31 / 255
/// pixels; equal means equal there too.
[[nodiscard]] SWIFTDET_HOST_DEVICE inline std::uint8_t cell_mean(std::uint32_t total, std::int64_t pixels) noexcept {
  const float weight = 1.0F / static_cast<float>(pixels);
  return rounded_byte(static_cast<float>(static_cast<std::int32_t>(total)) * weight);
}

}  // namespace swiftdet::ops
