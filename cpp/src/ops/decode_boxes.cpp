#include "ops/decode_boxes.hpp"

#include <cstddef>

namespace swiftdet::ops {
namespace {

/// First value of batch item `image`.
const float* item(const TensorView& output, std::int64_t image) noexcept {
  std::int64_t size = 1;
  for (std::size_t axis = 1; axis < output.shape.rank(); ++axis) size *= output.shape[axis];
  return output.data + image * size;
}

/// The four values of each anchor at `base + anchor * anchor_stride + value * value_stride`.
void decode_plain(const float* base, std::ptrdiff_t anchor_stride, std::ptrdiff_t value_stride, BoxFormat format,
                  std::span<const std::int32_t> anchors, std::span<Box> boxes) {
  for (std::size_t i = 0; i < anchors.size(); ++i) {
    const float* const v = base + anchors[i] * anchor_stride;
    const float a = v[0];
    const float b = v[value_stride];
    const float c = v[2 * value_stride];
    const float d = v[3 * value_stride];
    boxes[i] = format == BoxFormat::kXyxy ? Box{a, b, c, d} : box_from_center(a, b, c, d);
  }
}

/// Place of a cell in its level, as the floats that the formulas take.
struct CellPlace {
  float column;
  float row;
};

CellPlace place_of(std::int32_t cell, std::int32_t width) noexcept {
  const std::int32_t row = cell / width;
  return {static_cast<float>(cell - row * width), static_cast<float>(row)};
}

std::size_t level_of(const HeadGeometry& geometry, std::size_t levels, std::int32_t anchor) noexcept {
  std::size_t level = levels - 1;
  while (geometry.levels[level].first_anchor > anchor) --level;
  return level;
}

void decode_anchor_maps(std::span<const TensorView> outputs, std::int64_t image, const HeadSpec& head,
                        const HeadGeometry& geometry, std::span<const std::int32_t> anchors, std::span<Box> boxes) {
  const std::int32_t per_cell = anchors_per_cell(head);
  const std::ptrdiff_t values = 5 + head.num_classes;
  for (std::size_t i = 0; i < anchors.size(); ++i) {
    const std::size_t index = level_of(geometry, head.strides.size(), anchors[i]);
    const Level& level = geometry.levels[index];
    const std::int32_t within = anchors[i] - level.first_anchor;
    const std::int32_t shape = within / level.cells();
    const std::int32_t cell = within % level.cells();
    const CellPlace place = place_of(cell, level.width);
    const std::ptrdiff_t step = level.interleaved ? 1 : level.cells();
    const float* const v =
        item(outputs[index], image) + (level.interleaved ? within * values : shape * values * level.cells() + cell);
    const auto& anchor = head.anchors[index * static_cast<std::size_t>(per_cell) + static_cast<std::size_t>(shape)];
    boxes[i] = box_from_anchor(v[0], v[step], v[2 * step], v[3 * step], place.column, place.row,
                               static_cast<float>(head.strides[index]), anchor[0], anchor[1]);
  }
}

}  // namespace

void BoxDecoder::decode_distributions(std::span<const TensorView> outputs, std::int64_t image, const HeadSpec& head,
                                      const HeadGeometry& geometry, std::span<const std::int32_t> anchors,
                                      std::span<Box> boxes) {
  const std::size_t levels = head.strides.size();
  const std::int32_t bins = head.reg_max + 1;
  members_.reserve(anchors.size());
  offsets_.reserve(4 * anchors.size());
  if (distances_.size() < 4 * anchors.size()) distances_.resize(4 * anchors.size());
  for (std::size_t index = 0; index < levels; ++index) {
    const Level& level = geometry.levels[index];
    members_.clear();
    offsets_.clear();
    for (std::size_t i = 0; i < anchors.size(); ++i) {
      if (level_of(geometry, levels, anchors[i]) != index) continue;
      members_.push_back(static_cast<std::int32_t>(i));
      const std::int32_t cell = anchors[i] - level.first_anchor;
      for (std::int32_t side = 0; side < 4; ++side) offsets_.push_back(side * bins * level.cells() + cell);
    }
    if (members_.empty()) continue;
    kernels_->expected_bins(item(outputs[levels + index], image), offsets_.data(),
                            static_cast<std::int32_t>(offsets_.size()), level.cells(), bins, distances_.data());
    const float* side = distances_.data();
    for (const std::int32_t member : members_) {
      const auto i = static_cast<std::size_t>(member);
      const CellPlace place = place_of(anchors[i] - level.first_anchor, level.width);
      boxes[i] = box_from_distances(side[0], side[1], side[2], side[3], place.column, place.row,
                                    static_cast<float>(head.strides[index]));
      side += 4;
    }
  }
}

void BoxDecoder::decode(std::span<const TensorView> outputs, std::int64_t image, const HeadSpec& head,
                        const HeadGeometry& geometry, std::span<const std::int32_t> anchors, std::span<Box> boxes) {
  switch (head.layout) {
    case HeadLayout::kRows:
      return decode_plain(item(outputs[0], image), outputs[0].shape[2], 1, head.box_format, anchors, boxes);
    case HeadLayout::kColumns:
      return decode_plain(item(outputs[0], image), 1, geometry.predictions, head.box_format, anchors, boxes);
    case HeadLayout::kScoresBoxes: return decode_plain(item(outputs[1], image), 4, 1, head.box_format, anchors, boxes);
    case HeadLayout::kDetections: return decode_plain(item(outputs[0], image), 6, 1, BoxFormat::kXyxy, anchors, boxes);
    case HeadLayout::kAnchorMaps: return decode_anchor_maps(outputs, image, head, geometry, anchors, boxes);
    case HeadLayout::kDistributionMaps: return decode_distributions(outputs, image, head, geometry, anchors, boxes);
  }
}

}  // namespace swiftdet::ops
