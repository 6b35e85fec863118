#include "ops/resize_rows.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace swiftdet::ops::cpu {
namespace {

template <int kChannels>
void pack_row_of(const ImageView& image, int y, std::uint8_t* packed) {
  const std::uint8_t* pixel = image.row(y);
  for (int x = 0; x < image.size.width; ++x, pixel += image.pixel_stride, packed += kChannels) {
    for (int c = 0; c < kChannels; ++c) packed[c] = pixel[c * image.channel_stride];
  }
}

/// The mean of cells of factor.width bytes of each channel, whose rows are already added up in `sums`.
///
/// OpenCV adds in int32 and so wraps for cells of more than 2^31 / 255 pixels; equal means equal there too.
template <int kChannels>
void average_cells(const std::uint32_t* sums, Size factor, int width, std::uint8_t* lanes) {
  constexpr int kLanes = lane_count(kChannels);
  const float weight = 1.0F / static_cast<float>(std::int64_t{factor.height} * factor.width);
  for (int d = 0; d < width; ++d, lanes += kLanes) {
    std::uint32_t total[kChannels] = {};
    for (int k = 0; k < factor.width; ++k, sums += kChannels) {
      for (int c = 0; c < kChannels; ++c) total[c] += sums[c];
    }
    for (int c = 0; c < kChannels; ++c) {
      const float mean = static_cast<float>(std::bit_cast<std::int32_t>(total[c])) * weight;
      lanes[c] = static_cast<std::uint8_t>(std::clamp(std::nearbyint(mean), 0.0F, 255.0F));
    }
  }
}

}  // namespace

void pack_row(const ImageView& image, int y, std::uint8_t* packed) {
  if (image.packed_rows()) {
    std::copy_n(image.row(y), static_cast<std::size_t>(image.size.width) * static_cast<std::size_t>(image.channels),
                packed);
    return;
  }
  switch (image.channels) {
    case 1: return pack_row_of<1>(image, y, packed);
    case 3: return pack_row_of<3>(image, y, packed);
    default: return pack_row_of<4>(image, y, packed);
  }
}

void RowResizer::start(const ImageView& source, Size target, Interpolation interpolation) {
  source_ = source;
  const Plan plan{source.size, target, source.channels, interpolation};
  if (plan != plan_) make_plan(plan);
  if (!source.packed_rows()) {
    packed_.resize(static_cast<std::size_t>(source.size.width) * static_cast<std::size_t>(source.channels));
  }
  for (LinearRow& row : linear_rows_) row.index = kNoRow;
  area_columns_index_ = kNoRow;
}

void RowResizer::make_plan(const Plan& plan) {
  plan_ = {};  // stays so if an allocation below throws
  const Size from = plan.source;
  const Size to = plan.target;
  const auto lane_elements = padded(static_cast<std::size_t>(to.width) * static_cast<std::size_t>(lane_count(plan.channels)));
  out_.assign(lane_elements, 0);
  if (from == to) {
    path_ = Path::kCopy;
  } else if (plan.interpolation == Interpolation::kLinear) {
    path_ = Path::kLinear;
    fill_horizontal_linear(from.width, to.width, LinearKind::kLinear, linear_x_);
    fill_vertical_linear(from.height, to.height, LinearKind::kLinear, linear_y_);
  } else if (axis_scale(from.width, to.width) < 1.0 || axis_scale(from.height, to.height) < 1.0) {
    path_ = Path::kLinear;
    fill_horizontal_linear(from.width, to.width, LinearKind::kAreaEnlarge, linear_x_);
    fill_vertical_linear(from.height, to.height, LinearKind::kAreaEnlarge, linear_y_);
  } else {
    factor_ = {whole_shrink_factor(from.height, to.height), whole_shrink_factor(from.width, to.width)};
    if (factor_ == Size{2, 2}) {
      path_ = Path::kLinear;
      fill_horizontal_linear(from.width, to.width, LinearKind::kLinear, linear_x_);
      fill_vertical_linear(from.height, to.height, LinearKind::kLinear, linear_y_);
    } else if (factor_.height != 0 && factor_.width != 0) {
      path_ = Path::kWholeShrink;
      byte_sums_.assign(static_cast<std::size_t>(from.width) * static_cast<std::size_t>(plan.channels), 0);
    } else {
      path_ = Path::kArea;
      fill_area(from.width, to.width, area_x_);
      fill_area(from.height, to.height, area_y_);
      area_columns_.assign(lane_elements, 0.0F);
      area_sums_.assign(lane_elements, 0.0F);
    }
  }
  if (path_ == Path::kLinear) {
    for (LinearRow& row : linear_rows_) row.lanes.assign(lane_elements, 0);
  }
  plan_ = plan;
}

const std::uint8_t* RowResizer::row(int y) {
  switch (path_) {
    case Path::kCopy:
      if (lanes() == source_.channels) return pixels(y);
      kernels_->spread(pixels(y), source_.channels, 0, source_.size.width, out_.data());
      break;
    case Path::kLinear: linear_row(y); break;
    case Path::kWholeShrink: whole_shrink_row(y); break;
    case Path::kArea: area_row(y); break;
  }
  return out_.data();
}

const std::uint8_t* RowResizer::pixels(int y) {
  if (source_.packed_rows()) return source_.row(y);
  pack_row(source_, y, packed_.data());
  return packed_.data();
}

const std::int16_t* RowResizer::linear_source_row(int y) {
  for (const LinearRow& row : linear_rows_) {
    if (row.index == y) return row.lanes.data();
  }
  // Rows come in ascending order, so the lower index is the one that is not needed again.
  LinearRow& row = linear_rows_[0].index < linear_rows_[1].index ? linear_rows_[0] : linear_rows_[1];
  const LinearColumns columns{linear_x_.first.data(), linear_x_.weights.data(), 0, plan_.target.width,
                              plan_.source.width};
  kernels_->linear_columns(pixels(y), source_.channels, columns, row.lanes.data());
  row.index = y;
  return row.lanes.data();
}

void RowResizer::linear_row(int y) {
  const int first = linear_y_.first[static_cast<std::size_t>(y)];
  const std::uint32_t weights = linear_y_.weights[static_cast<std::size_t>(y)];
  const std::uint16_t w_above = LinearAxis::first_weight(weights);
  const std::uint16_t w_below = LinearAxis::second_weight(weights);
  const int last = plan_.source.height - 1;
  int above = std::clamp(first, 0, last);
  int below = std::clamp(first + 1, 0, last);
  // A row without weight need not be computed: every second one where the factor is an odd number.
  if (w_below == 0) below = above;
  if (w_above == 0) above = below;
  const std::int16_t* const above_lanes = linear_source_row(above);
  const std::int16_t* const below_lanes = linear_source_row(below);
  kernels_->linear_rows(above_lanes, below_lanes, w_above, w_below, out_.size(), out_.data());
}

void RowResizer::whole_shrink_row(int y) {
  for (int k = 0; k < factor_.height; ++k) {
    kernels_->add_bytes(pixels(y * factor_.height + k), k == 0, byte_sums_.size(), byte_sums_.data());
  }
  switch (source_.channels) {
    case 1: return average_cells<1>(byte_sums_.data(), factor_, plan_.target.width, out_.data());
    case 3: return average_cells<3>(byte_sums_.data(), factor_, plan_.target.width, out_.data());
    default: return average_cells<4>(byte_sums_.data(), factor_, plan_.target.width, out_.data());
  }
}

void RowResizer::area_row(int y) {
  const AreaColumns columns{area_x_.first.data(), area_x_.weights.data(), area_x_.taps, 0, plan_.target.width,
                            plan_.source.width};
  const int first = area_y_.first[static_cast<std::size_t>(y)];
  const float* const weights = area_y_.weights.data() + static_cast<std::ptrdiff_t>(y) * area_y_.taps;
  bool started = false;
  for (int k = 0; k < area_y_.taps; ++k) {
    if (weights[k] == 0.0F) continue;  // only there to make the runs equally long
    if (first + k != area_columns_index_) {  // two destination rows may share the source row between them
      kernels_->area_columns(pixels(first + k), source_.channels, columns, area_columns_.data());
      area_columns_index_ = first + k;
    }
    kernels_->area_add_row(area_columns_.data(), weights[k], !started, area_sums_.size(), area_sums_.data());
    started = true;
  }
  kernels_->area_finish(area_sums_.data(), out_.size(), out_.data());
}

}  // namespace swiftdet::ops::cpu
