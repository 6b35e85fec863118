#include "ops/resize_rows.hpp"

#include <algorithm>

#include "ops/resize_formulas.hpp"

namespace swiftdet::ops::cpu {
namespace {

/// From this factor on, source rows that are used lie far enough apart for prefetching to pay (measured from 2 to 6).
constexpr int kFarRows = 4;

template <int kChannels>
void pack_row_of(const ImageView& image, int y, std::uint8_t* packed) {
  const std::uint8_t* pixel = image.row(y);
  for (int x = 0; x < image.size.width; ++x, pixel += image.pixel_stride, packed += kChannels) {
    for (int c = 0; c < kChannels; ++c) packed[c] = pixel[c * image.channel_stride];
  }
}

/// The mean of cells of factor.width bytes of each channel, whose rows are already added up in `sums`.
template <int kChannels>
void average_cells(const std::uint32_t* sums, Size factor, int width, std::uint8_t* lanes) {
  constexpr int kLanes = lane_count(kChannels);
  const std::int64_t pixels = std::int64_t{factor.height} * factor.width;
  for (int d = 0; d < width; ++d, lanes += kLanes) {
    std::uint32_t total[kChannels] = {};
    for (int k = 0; k < factor.width; ++k, sums += kChannels) {
      for (int c = 0; c < kChannels; ++c) total[c] += sums[c];
    }
    for (int c = 0; c < kChannels; ++c) lanes[c] = cell_mean(total[c], pixels);
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
    packed_.resize(2 * static_cast<std::size_t>(source.size.width) * static_cast<std::size_t>(source.channels));
  }
  for (LinearRow& row : linear_rows_) row.index = kNoRow;
  area_columns_index_ = kNoRow;
}

void RowResizer::make_plan(const Plan& plan) {
  plan_ = {};  // so that the next image does not find half a plan if an allocation throws
  const Size from = plan.source;
  const Size to = plan.target;
  const auto lane_elements =
      padded(static_cast<std::size_t>(to.width) * static_cast<std::size_t>(lane_count(plan.channels)));
  rule_ = resize_rule(from, to, plan.interpolation);
  out_.assign(lane_elements, 0);
  switch (rule_) {
    case ResizeRule::kCopy:
    case ResizeRule::kHalve: break;
    case ResizeRule::kLinear:
    case ResizeRule::kAreaEnlarge: {
      const LinearKind kind = rule_ == ResizeRule::kLinear ? LinearKind::kLinear : LinearKind::kAreaEnlarge;
      fill_horizontal_linear(from.width, to.width, kind, linear_x_);
      fill_vertical_linear(from.height, to.height, kind, linear_y_);
      for (LinearRow& row : linear_rows_) row.lanes.assign(lane_elements, 0);
      linear_plan_.resize(static_cast<std::size_t>(to.width) * kPlanBytesPerPixel);
      linear_columns_ = {.first = linear_x_.first.data(),
                         .weights = linear_x_.weights.data(),
                         .begin = 0,
                         .end = to.width,
                         .source_width = from.width};
      if (kernels_->plan_linear_columns(plan.channels, linear_columns_, linear_plan_.data())) {
        linear_columns_.plan = linear_plan_.data();
      }
      break;
    }
    case ResizeRule::kWholeShrink:
      factor_ = {whole_shrink_factor(from.height, to.height), whole_shrink_factor(from.width, to.width)};
      byte_sums_.assign(static_cast<std::size_t>(from.width) * static_cast<std::size_t>(plan.channels), 0);
      break;
    case ResizeRule::kArea:
      fill_area(from.width, to.width, area_x_);
      fill_area(from.height, to.height, area_y_);
      area_columns_.assign(lane_elements, 0.0F);
      area_sums_.assign(lane_elements, 0.0F);
      break;
  }
  plan_ = plan;
}

const std::uint8_t* RowResizer::row(int y) {
  switch (rule_) {
    case ResizeRule::kCopy:
      if (lanes() == source_.channels) return pixels(y);
      kernels_->spread(pixels(y), source_.channels, 0, source_.size.width, out_.data());
      break;
    case ResizeRule::kHalve: halve_row(y); break;
    case ResizeRule::kLinear:
    case ResizeRule::kAreaEnlarge: linear_row(y); break;
    case ResizeRule::kWholeShrink: whole_shrink_row(y); break;
    case ResizeRule::kArea: area_row(y); break;
  }
  return out_.data();
}

const std::uint8_t* RowResizer::pixels(int y) {
  if (source_.packed_rows()) return source_.row(y);
  pack_row(source_, y, packed_.data());
  return packed_.data();
}

const std::int16_t* RowResizer::linear_source_row(int y, int next_y) {
  for (const LinearRow& row : linear_rows_) {
    if (row.index == y) return row.lanes.data();
  }
  // Rows come in ascending order, so the lower index is the one that is not needed again.
  LinearRow& row = linear_rows_[0].index < linear_rows_[1].index ? linear_rows_[0] : linear_rows_[1];
  // Where rows are skipped, the processor does not see the next one coming.
  const bool far = source_.packed_rows() && plan_.source.height >= kFarRows * plan_.target.height;
  linear_columns_.next_row = far ? source_.row(next_y) : nullptr;
  kernels_->linear_columns(pixels(y), source_.channels, linear_columns_, row.lanes.data());
  row.index = y;
  return row.lanes.data();
}

void RowResizer::linear_row(int y) {
  const auto row = static_cast<std::size_t>(y);
  const std::uint32_t weights = linear_y_.weights[row];
  const std::uint16_t w_above = LinearAxis::first_weight(weights);
  const std::uint16_t w_below = LinearAxis::second_weight(weights);
  const int last = plan_.source.height - 1;
  int above = std::clamp(linear_y_.first[row], 0, last);
  int below = std::clamp(linear_y_.first[row] + 1, 0, last);
  // A row without weight need not be computed: every second one where the factor is an odd number.
  if (w_below == 0) below = above;
  if (w_above == 0) above = below;
  const std::size_t next_row = std::min(row + 1, linear_y_.first.size() - 1);
  const int next_above = std::clamp(linear_y_.first[next_row], 0, last);
  const std::int16_t* const above_lanes = linear_source_row(above, below != above ? below : next_above);
  const std::int16_t* const below_lanes = linear_source_row(below, next_above);
  kernels_->linear_rows(above_lanes, below_lanes, w_above, w_below, out_.size(), out_.data());
}

/// The two rows are used at once, so a source that has to be packed needs room for both.
void RowResizer::halve_row(int y) {
  const std::uint8_t* top = source_.row(2 * y);
  const std::uint8_t* bottom = source_.row(2 * y + 1);
  if (!source_.packed_rows()) {
    const std::size_t row_bytes = packed_.size() / 2;
    pack_row(source_, 2 * y, packed_.data());
    pack_row(source_, 2 * y + 1, packed_.data() + row_bytes);
    top = packed_.data();
    bottom = packed_.data() + row_bytes;
  }
  kernels_->halve(top, bottom, source_.channels, 0, plan_.target.width, out_.data());
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
  const AreaColumns columns{.first = area_x_.first.data(),
                            .weights = area_x_.weights.data(),
                            .taps = area_x_.taps,
                            .begin = 0,
                            .end = plan_.target.width,
                            .source_width = plan_.source.width};
  const int first = area_y_.first[static_cast<std::size_t>(y)];
  const float* const weights = area_y_.weights.data() + static_cast<std::ptrdiff_t>(y) * area_y_.taps;
  bool started = false;
  for (int k = 0; k < area_y_.taps; ++k) {
    if (weights[k] == 0.0F) continue;        // only there to make the runs equally long
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
