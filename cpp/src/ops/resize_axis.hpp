// Coefficients of one axis of a resize: which source pixels make a destination pixel, and with what weights.
//
// The arithmetic is that of resize_formulas.hpp.
#pragma once

#include <cstdint>
#include <vector>

namespace swiftdet::ops {

/// Two neighbouring source pixels for each destination pixel, with weights of 11 fraction bits: 2048 is one.
struct LinearAxis {
  std::vector<std::int32_t> first;     ///< [D] source index of the first pixel, ascending; the second is one further
  std::vector<std::uint32_t> weights;  ///< [D] first pixel's weight in the low half, second pixel's in the high half

  [[nodiscard]] static std::uint16_t first_weight(std::uint32_t pair) noexcept {
    return static_cast<std::uint16_t>(pair & 0xFFFFU);
  }
  [[nodiscard]] static std::uint16_t second_weight(std::uint32_t pair) noexcept {
    return static_cast<std::uint16_t>(pair >> 16U);
  }
};

/// A run of `taps` neighbouring source pixels for each destination pixel, weighted by how much of each the destination
/// cell covers. Runs lie inside the source; those that need fewer pixels than the longest are filled with weights of 0,
/// which change no sum.
struct AreaAxis {
  int taps = 0;
  std::vector<std::int32_t> first;  ///< [D] source index of the run's first pixel, ascending
  std::vector<float> weights;       ///< [D, taps]
};

/// Where the second-pixel weight of a destination pixel comes from.
enum class LinearKind : std::uint8_t {
  kLinear,       ///< linear_tap
  kAreaEnlarge,  ///< area_enlarge_tap
};

[[nodiscard]] double axis_scale(int source, int destination) noexcept;

/// The factor by which the axis shrinks if it is a whole number (1 included), else 0.
/// Judged on the rounded scale: 49 -> 1 is not whole, because 1 / (1 / 49.0) is not 49.
[[nodiscard]] int whole_shrink_factor(int source, int destination) noexcept;

/// Horizontal axis: `first` is clamped to [0, S - 1], and where it is clamped, or is S - 1, the second weight is 0; so
/// a second pixel of non-zero weight always exists.
void fill_horizontal_linear(int source, int destination, LinearKind kind, LinearAxis& axis);

/// Vertical axis: `first` is -1 to S - 1 and the weights stay as computed; the caller clamps both row indices.
void fill_vertical_linear(int source, int destination, LinearKind kind, LinearAxis& axis);

/// Either axis of a shrinking INTER_AREA.
void fill_area(int source, int destination, AreaAxis& axis);

}  // namespace swiftdet::ops
