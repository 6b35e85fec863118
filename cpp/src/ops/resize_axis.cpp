#include "ops/resize_axis.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/resize_formulas.hpp"

namespace swiftdet::ops {
namespace {

std::uint32_t weight_pair(float fraction) { return linear_weight(1.0F - fraction) | (linear_weight(fraction) << 16U); }

template <typename Adjust>
void fill_linear(int source, int destination, LinearKind kind, LinearAxis& axis, Adjust adjust) {
  const double inverse_scale = static_cast<double>(destination) / static_cast<double>(source);
  const double scale = 1.0 / inverse_scale;
  axis.first.resize(static_cast<std::size_t>(destination));
  axis.weights.resize(static_cast<std::size_t>(destination));
  for (int d = 0; d < destination; ++d) {
    LinearTap tap = kind == LinearKind::kLinear ? linear_tap(d, scale) : area_enlarge_tap(d, scale, inverse_scale);
    tap = adjust(tap);
    axis.first[static_cast<std::size_t>(d)] = tap.first;
    axis.weights[static_cast<std::size_t>(d)] = weight_pair(tap.fraction);
  }
}

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

ResizeRule resize_rule(Size source, Size target, Interpolation interpolation) noexcept {
  if (source == target) return ResizeRule::kCopy;
  if (source.height == 2 * target.height && source.width == 2 * target.width) return ResizeRule::kHalve;
  if (interpolation == Interpolation::kLinear) return ResizeRule::kLinear;
  if (axis_scale(source.width, target.width) < 1.0 || axis_scale(source.height, target.height) < 1.0) {
    return ResizeRule::kAreaEnlarge;
  }
  const bool whole =
      whole_shrink_factor(source.width, target.width) != 0 && whole_shrink_factor(source.height, target.height) != 0;
  return whole ? ResizeRule::kWholeShrink : ResizeRule::kArea;
}

void fill_horizontal_linear(int source, int destination, LinearKind kind, LinearAxis& axis) {
  fill_linear(source, destination, kind, axis, [source](LinearTap tap) { return horizontal_tap(tap, source); });
}

void fill_vertical_linear(int source, int destination, LinearKind kind, LinearAxis& axis) {
  fill_linear(source, destination, kind, axis, [](LinearTap tap) { return tap; });
}

void fill_area(int source, int destination, AreaAxis& axis) {
  const double scale = axis_scale(source, destination);
  const auto cell_of = [&](int d) { return area_cell(d, source, scale); };
  axis.taps = 0;
  for (int d = 0; d < destination; ++d) axis.taps = std::max(axis.taps, cell_of(d).taps());
  axis.first.resize(static_cast<std::size_t>(destination));
  axis.weights.assign(static_cast<std::size_t>(destination) * static_cast<std::size_t>(axis.taps), 0.0F);
  for (int d = 0; d < destination; ++d) {
    const AreaCell cell = cell_of(d);
    const int first = std::min(cell.first(), source - axis.taps);
    axis.first[static_cast<std::size_t>(d)] = first;
    float* const weight = axis.weights.data() + static_cast<std::ptrdiff_t>(d) * axis.taps + (cell.first() - first);
    for (int k = 0; k < cell.taps(); ++k) weight[k] = cell.weight(k);
  }
}

}  // namespace swiftdet::ops
