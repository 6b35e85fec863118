#include "ops/resize_axis.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace swiftdet::ops {
namespace {

constexpr float kWeightOne = 2048.0F;

/// Less than this part of a pixel does not count as covered.
constexpr double kLeastCoverage = 1e-3;

struct Tap {
  int first;
  float fraction;  ///< of the second pixel, in [0, 1)
};

Tap linear_tap(int d, double scale) {
  const auto centre = static_cast<float>((d + 0.5) * scale - 0.5);
  const float floor = std::floor(centre);
  return {static_cast<int>(floor), centre - floor};
}

Tap area_enlarge_tap(int d, double scale, double inverse_scale) {
  const int first = static_cast<int>(std::floor(d * scale));
  const auto beyond = static_cast<float>((d + 1) - (first + 1) * inverse_scale);
  return {first, beyond <= 0.0F ? 0.0F : beyond - std::floor(beyond)};
}

/// nearbyint rounds half to even, as OpenCV's conversion does.
std::uint32_t weight_pair(float fraction) {
  const auto first = static_cast<std::uint32_t>(std::nearbyint((1.0F - fraction) * kWeightOne));
  const auto second = static_cast<std::uint32_t>(std::nearbyint(fraction * kWeightOne));
  return first | (second << 16U);
}

template <typename Adjust>
void fill_linear(int source, int destination, LinearKind kind, LinearAxis& axis, Adjust adjust) {
  const double inverse_scale = static_cast<double>(destination) / static_cast<double>(source);
  const double scale = 1.0 / inverse_scale;
  axis.first.resize(static_cast<std::size_t>(destination));
  axis.weights.resize(static_cast<std::size_t>(destination));
  for (int d = 0; d < destination; ++d) {
    Tap tap = kind == LinearKind::kLinear ? linear_tap(d, scale) : area_enlarge_tap(d, scale, inverse_scale);
    adjust(tap);
    axis.first[static_cast<std::size_t>(d)] = tap.first;
    axis.weights[static_cast<std::size_t>(d)] = weight_pair(tap.fraction);
  }
}

/// What a destination pixel covers: perhaps part of a pixel, whole pixels, perhaps part of a pixel.
struct AreaCell {
  int first_whole = 0;
  int whole_count = 0;
  float whole_weight = 0.0F;
  float leading_weight = 0.0F;   ///< 0: no such pixel
  float trailing_weight = 0.0F;  ///< 0: no such pixel

  [[nodiscard]] int first() const { return first_whole - (leading_weight != 0.0F ? 1 : 0); }
  [[nodiscard]] int taps() const {
    return whole_count + (leading_weight != 0.0F ? 1 : 0) + (trailing_weight != 0.0F ? 1 : 0);
  }
};

}  // namespace

double axis_scale(int source, int destination) noexcept {
  return 1.0 / (static_cast<double>(destination) / static_cast<double>(source));
}

int whole_shrink_factor(int source, int destination) noexcept {
  const double scale = axis_scale(source, destination);
  const double rounded = std::nearbyint(scale);
  const bool whole = scale >= 1.0 && std::abs(scale - rounded) < std::numeric_limits<double>::epsilon();
  return whole ? static_cast<int>(rounded) : 0;
}

void fill_horizontal_linear(int source, int destination, LinearKind kind, LinearAxis& axis) {
  fill_linear(source, destination, kind, axis, [source](Tap& tap) {
    if (tap.first < 0) tap = {0, 0.0F};
    if (tap.first >= source - 1) tap = {source - 1, 0.0F};
  });
}

void fill_vertical_linear(int source, int destination, LinearKind kind, LinearAxis& axis) {
  fill_linear(source, destination, kind, axis, [](const Tap&) {});
}

void fill_area(int source, int destination, AreaAxis& axis) {
  const double scale = axis_scale(source, destination);
  const auto cell_of = [&](int d) {
    AreaCell cell;
    const double begin = d * scale;
    const double end = begin + scale;
    const double covered = std::min(scale, source - begin);
    const int last = std::min(static_cast<int>(std::floor(end)), source - 1);
    cell.first_whole = std::min(static_cast<int>(std::ceil(begin)), last);
    cell.whole_count = last - cell.first_whole;
    cell.whole_weight = static_cast<float>(1.0 / covered);
    const double leading = cell.first_whole - begin;
    const double trailing = end - last;
    if (leading > kLeastCoverage) cell.leading_weight = static_cast<float>(leading / covered);
    if (trailing > kLeastCoverage) {
      cell.trailing_weight = static_cast<float>(std::min(std::min(trailing, 1.0), covered) / covered);
    }
    return cell;
  };

  axis.taps = 0;
  for (int d = 0; d < destination; ++d) axis.taps = std::max(axis.taps, cell_of(d).taps());
  axis.first.resize(static_cast<std::size_t>(destination));
  axis.weights.assign(static_cast<std::size_t>(destination) * static_cast<std::size_t>(axis.taps), 0.0F);
  for (int d = 0; d < destination; ++d) {
    const AreaCell cell = cell_of(d);
    const int first = std::min(cell.first(), source - axis.taps);
    axis.first[static_cast<std::size_t>(d)] = first;
    float* weight = axis.weights.data() + static_cast<std::ptrdiff_t>(d) * axis.taps + (cell.first() - first);
    if (cell.leading_weight != 0.0F) *weight++ = cell.leading_weight;
    weight = std::fill_n(weight, cell.whole_count, cell.whole_weight);
    if (cell.trailing_weight != 0.0F) *weight = cell.trailing_weight;
  }
}

}  // namespace swiftdet::ops
